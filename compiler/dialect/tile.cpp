// Registration and verifiers of the `tile` dialect. Constraint labels are those of TileOps.td.
#include "compiler/dialect/dialects.h"

#include "llvm/ADT/TypeSwitch.h"
#include "mlir/IR/DialectImplementation.h"

#include "compiler/dialect/TileDialect.cpp.inc"
#include "compiler/dialect/TileEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/TileAttributes.cpp.inc"

namespace weft::tile {

/// "(max, add)".
static mlir::ParseResult parseReductions(mlir::OpAsmParser &parser, mlir::DenseI32ArrayAttr &reductions) {
  llvm::SmallVector<int32_t> list;
  auto one = [&]() -> mlir::ParseResult {
    llvm::StringRef word;
    const llvm::SMLoc where = parser.getCurrentLocation();
    if (parser.parseKeyword(&word)) return mlir::failure();
    const std::optional<Reduction> found = symbolizeReduction(word);
    if (!found) return parser.emitError(where, "expected a reduction, add or max, got ") << word;
    list.push_back(static_cast<int32_t>(*found));
    return mlir::success();
  };
  if (parser.parseCommaSeparatedList(mlir::AsmParser::Delimiter::Paren, one)) return mlir::failure();
  reductions = mlir::DenseI32ArrayAttr::get(parser.getContext(), list);
  return mlir::success();
}
static void printReductions(mlir::OpAsmPrinter &printer, mlir::Operation *, mlir::DenseI32ArrayAttr reductions) {
  printer << '(';
  llvm::interleaveComma(reductions.asArrayRef(), printer,
                        [&](int32_t own) { printer << stringifyReduction(static_cast<Reduction>(own)); });
  printer << ')';
}

}  // namespace weft::tile

#define GET_OP_CLASSES
#include "compiler/dialect/TileOps.cpp.inc"

namespace weft::tile {

void TileDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/TileOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/TileAttributes.cpp.inc"
      >();
}

llvm::LogicalResult KernelOp::verify() {
  const unsigned expected = getGrid() == Grid::Group || getGrid() == Grid::Head ? 2 : 3;
  if (getBody().front().getNumArguments() != expected)
    return emitOpError("(C1) expected ") << expected << " arguments, got " << getBody().front().getNumArguments();
  if (getTileQ() <= 0 || getTileK() <= 0)
    return emitOpError("(C2) expected positive tile sizes, got ") << getTileQ() << " and " << getTileK();
  return llvm::success();
}

llvm::LogicalResult KernelOp::verifyRegions() {
  auto isDeclared = [&](mlir::Operation *op, mlir::Attribute attribute) -> llvm::LogicalResult {
    auto name = mlir::dyn_cast<mlir::FlatSymbolRefAttr>(attribute);
    if (!name || mlir::SymbolTable::lookupSymbolIn(getOperation(), name)) return llvm::success();
    return op->emitOpError("(C3) expected a tensor of the kernel, got @") << name.getValue();
  };
  const mlir::WalkResult result = getBody().walk([&](mlir::Operation *op) {
    for (mlir::NamedAttribute own : op->getAttrs()) {
      if (mlir::failed(isDeclared(op, own.getValue()))) return mlir::WalkResult::interrupt();
      if (auto list = mlir::dyn_cast<mlir::ArrayAttr>(own.getValue()))
        for (mlir::Attribute name : list)
          if (mlir::failed(isDeclared(op, name))) return mlir::WalkResult::interrupt();
    }
    return mlir::WalkResult::advance();
  });
  return llvm::failure(result.wasInterrupted());
}

llvm::LogicalResult ForOp::verify() {
  if (getOver() == Range::Turns && !getStart().getDefiningOp<mlir::arith::ConstantOp>())
    return emitOpError("(C2) expected a constant number of turns");
  auto arguments = getBody().front().getArguments().drop_front(overKept() ? 2 : 1);
  if (getInitArgs().getTypes() != getResults().getTypes() ||
      mlir::TypeRange(mlir::ValueRange(arguments)) != getResults().getTypes())
    return emitOpError("(C1) expected results, inits and carried arguments of the same types");
  return llvm::success();
}

llvm::SmallVector<mlir::Region *> ForOp::getLoopRegions() { return {&getBody()}; }
std::optional<llvm::SmallVector<mlir::Value>> ForOp::getLoopInductionVars() {
  return llvm::SmallVector<mlir::Value>{getBody().front().getArgument(0)};
}
llvm::MutableArrayRef<mlir::OpOperand> ForOp::getInitsMutable() { return getInitArgsMutable(); }
mlir::Block::BlockArgListType ForOp::getRegionIterArgs() {
  return getBody().front().getArguments().drop_front(overKept() ? 2 : 1);
}
std::optional<llvm::MutableArrayRef<mlir::OpOperand>> ForOp::getYieldedValuesMutable() {
  return mlir::cast<YieldOp>(getBody().front().getTerminator()).getValuesMutable();
}
std::optional<mlir::ResultRange> ForOp::getLoopResults() { return getOperation()->getResults(); }
int64_t ForOp::turns() {
  auto count = getStart().getDefiningOp<mlir::arith::ConstantOp>();
  return mlir::cast<mlir::IntegerAttr>(count.getValue()).getInt();
}

llvm::LogicalResult PoolRowsOp::verify() {
  if (static_cast<int64_t>(getWidth()) <= 0 || static_cast<int64_t>(getStride()) <= 0)
    return emitOpError("(C1) expected a positive width and stride");
  return llvm::success();
}

llvm::LogicalResult FlatDotsOp::verify() {
  if (static_cast<int64_t>(getWidth()) <= 0) return emitOpError("(C1) expected a positive width");
  if (const auto rows = static_cast<int64_t>(getMostRows()); rows < 1 || rows > 8)
    return emitOpError("(C2) expected 1 to 8 rows, got ") << rows;
  if (static_cast<int64_t>(getBlockRows()) <= 0)
    return emitOpError("(C3) expected a positive number of rows of a block");
  return llvm::success();
}

bool fits(DotForm form, llvm::ArrayRef<int64_t> lhs, llvm::ArrayRef<int64_t> rhs, llvm::ArrayRef<int64_t> result) {
  if (lhs.size() != 2 || rhs.size() != 2 || result.size() != 2) return false;
  switch (form) {
    case DotForm::NT: return lhs[1] == rhs[1] && result[0] == lhs[0] && result[1] == rhs[0];
    case DotForm::NN: return lhs[1] == rhs[0] && result[0] == lhs[0] && result[1] == rhs[1];
    case DotForm::TN: return lhs[0] == rhs[0] && result[0] == lhs[1] && result[1] == rhs[1];
  }
  return false;
}

llvm::LogicalResult DotOp::verify() {
  auto shapeOf = [](mlir::Value value) { return mlir::cast<mlir::RankedTensorType>(value.getType()).getShape(); };
  if (!fits(getForm(), shapeOf(getLhs()), shapeOf(getRhs()), shapeOf(getResult())))
    return emitOpError("(C1) expected shapes that fit form ") << stringifyDotForm(getForm());
  return llvm::success();
}

llvm::LogicalResult ScaleRowsOp::verify() {
  auto tile = mlir::cast<mlir::RankedTensorType>(getTile().getType());
  auto factors = mlir::cast<mlir::RankedTensorType>(getFactors().getType());
  if (tile.getRank() != 2 || factors.getRank() != 1 || factors.getDimSize(0) != tile.getDimSize(0))
    return emitOpError("(C1) expected a factor for each row");
  return llvm::success();
}

llvm::LogicalResult BelowPeakOp::verify() {
  auto scores = mlir::cast<mlir::RankedTensorType>(getScores().getType());
  auto peaks = mlir::cast<mlir::RankedTensorType>(getPeaks().getType());
  if (scores.getRank() != 2 || peaks.getRank() != 1 || peaks.getDimSize(0) != scores.getDimSize(0))
    return emitOpError("(C1) expected a peak for each row");
  return llvm::success();
}

llvm::LogicalResult PairwiseOp::verify() {
  llvm::ArrayRef<int64_t> shape;
  for (mlir::Value tile : getTiles()) {
    auto type = mlir::cast<mlir::RankedTensorType>(tile.getType());
    if (type.getRank() != 2 || (!shape.empty() && shape != type.getShape()))
      return emitOpError("(C1) expected tiles of one shape");
    shape = type.getShape();
  }
  auto result = mlir::dyn_cast<ResultOp>(getBody().front().getTerminator());
  if (!result || result.getValues().size() != getNumResults())
    return emitOpError("(C2) expected as many values in tile.result as results");
  if (getTransposed() && !getReductions().empty())
    return emitOpError("(C3) expected no reductions of rows: rows are keys here");
  for (mlir::Value row : getRows())
    if (!getTransposed() && !mlir::isa<mlir::RankedTensorType>(row.getType()))
      return emitOpError("(C4) expected row operands that are tensors, got ") << row.getType();
  return llvm::success();
}

}  // namespace weft::tile
