// Registration and verifiers of the `cpu` dialect. Constraint labels are those of CpuOps.td.
#include "compiler/dialect/cpu.h"

#include "llvm/ADT/TypeSwitch.h"
#include "mlir/IR/DialectImplementation.h"

#include "compiler/dialect/CpuDialect.cpp.inc"
#include "compiler/dialect/CpuEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/CpuAttributes.cpp.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/CpuOps.cpp.inc"

namespace weft::cpu {

void CpuDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/CpuOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/CpuAttributes.cpp.inc"
      >();
}

std::optional<Layout> layoutOf(mlir::Type tile) {
  auto layout = mlir::dyn_cast_or_null<LayoutAttr>(mlir::cast<mlir::RankedTensorType>(tile).getEncoding());
  return layout ? std::optional(layout.getValue()) : std::nullopt;
}

mlir::RankedTensorType withLayout(mlir::Type tile, Layout layout, mlir::Type element, int64_t columns) {
  auto own = mlir::cast<mlir::RankedTensorType>(tile);
  llvm::SmallVector<int64_t> shape(own.getShape());
  if (columns) shape.back() = columns;
  return mlir::RankedTensorType::get(shape, element ? element : own.getElementType(),
                                     LayoutAttr::get(tile.getContext(), layout));
}

bool usesAmx(tile::KernelOp kernel) {
  bool uses = false;
  kernel.walk([&](ProductOp product) { uses |= product.getKind() == ProductKind::Amx; });
  kernel.walk([&](ProductIntoOp into) { uses |= into.getKind() == ProductKind::Amx; });
  return uses;
}

Taken taken(ProductKind kind, tile::DotForm form, Side side) {
  const bool left = side == Side::Left;
  // One side is broadcast from where it lies; of the other, queries fill the lanes.
  if (kind == ProductKind::Fma) return {left ? Layout::Columns : Layout::Strided, false, 1};
  if (kind == ProductKind::ByRow) {
    if (!left) return {Layout::Strided, false, 1, true};
    return {form == tile::DotForm::NT ? Layout::Strided : Layout::Columns, false, 1};
  }
  const int64_t step = kind == ProductKind::Amx ? 32 : 2;
  switch (form) {
    case tile::DotForm::NT: return {left ? Layout::ColumnPairs : Layout::Strided, true, step};
    case tile::DotForm::NN: return {left ? Layout::ColumnPairs : Layout::Columns, true, step};
    case tile::DotForm::TN: return {left ? Layout::Columns : Layout::RowPairs, true, step};
  }
  return {Layout::Strided, true, step};
}

namespace {

mlir::RankedTensorType typeOf(mlir::Value tile) { return mlir::cast<mlir::RankedTensorType>(tile.getType()); }

bool inRows(mlir::Value tile) {
  const auto layout = layoutOf(tile.getType());
  return layout == Layout::Strided || layout == Layout::Rows;
}

/// Copies keep the rows of a tile, and all of its columns.
bool holds(mlir::Value result, mlir::Value source) {
  return typeOf(result).getDimSize(0) == typeOf(source).getDimSize(0) &&
         typeOf(result).getDimSize(1) >= typeOf(source).getDimSize(1);
}

bool takes(ProductKind kind, tile::DotForm form, Side side, mlir::Value tile) {
  const auto layout = layoutOf(tile.getType());
  if (!layout) return true;
  const Taken wanted = taken(kind, form, side);
  // Rows that lie side by side are as good as strided ones.
  const bool lies = *layout == wanted.layout || (wanted.layout == Layout::Strided && *layout == Layout::Rows);
  if (wanted.stored) return lies;
  return lies &&
         (wanted.half ? typeOf(tile).getElementType().isBF16() : dialect::isReal(typeOf(tile).getElementType()));
}

template <class Op>
llvm::LogicalResult verifySides(Op op, const char *label) {
  for (auto [side, tile] : {std::pair(Side::Left, op.getLhs()), std::pair(Side::Right, op.getRhs())})
    if (!takes(op.getKind(), op.getForm(), side, tile))
      return op.emitOpError(label) << " expected what " << stringifyProductKind(op.getKind()) << ' '
                                   << stringifyDotForm(op.getForm()) << " takes, got " << tile.getType();
  return llvm::success();
}

}  // namespace

llvm::LogicalResult ConvertOp::verify() {
  if (!inRows(getSource()) || layoutOf(getResult().getType()) != Layout::Rows ||
      !dialect::isReal(typeOf(getResult()).getElementType()) ||
      typeOf(getResult()).getShape() != typeOf(getSource()).getShape())
    return emitOpError("(C1) expected f32 rows of ") << getSource().getType() << ", got " << getResult().getType();
  return llvm::success();
}

llvm::LogicalResult PackOp::verify() {
  const auto layout = layoutOf(getResult().getType());
  const bool half = typeOf(getResult()).getElementType().isBF16();
  const bool packs =
      layout == Layout::Columns || (half && (layout == Layout::RowPairs || layout == Layout::ColumnPairs));
  if (!inRows(getSource()) || !packs)
    return emitOpError("(C1) expected rows to columns or pairs, got ")
           << getSource().getType() << " to " << getResult().getType();
  const bool unpads = half && layout == Layout::Columns;
  if (unpads ? !holds(getSource(), getResult()) : !holds(getResult(), getSource()))
    return emitOpError("(C2) expected rows and columns that hold ") << getSource().getType();
  return llvm::success();
}

llvm::LogicalResult PadOp::verify() {
  if (!inRows(getSource()) || layoutOf(getResult().getType()) != Layout::Strided)
    return emitOpError("(C1) expected rows to strided rows, got ")
           << getSource().getType() << " to " << getResult().getType();
  if (!holds(getResult(), getSource()))
    return emitOpError("(C2) expected rows and columns that hold ") << getSource().getType();
  return llvm::success();
}

llvm::LogicalResult RoundOp::verify() {
  const auto layout = layoutOf(getResult().getType());
  if (layoutOf(getSource().getType()) != Layout::Columns || !typeOf(getSource()).getElementType().isF32() ||
      (layout != Layout::Columns && layout != Layout::ColumnPairs) || !typeOf(getResult()).getElementType().isBF16() ||
      typeOf(getSource()).getShape() != typeOf(getResult()).getShape())
    return emitOpError("(C1) expected f32 columns to bf16 columns or column pairs, got ")
           << getSource().getType() << " to " << getResult().getType();
  return llvm::success();
}

llvm::LogicalResult ProductOp::verify() {
  if (!tile::fits(getForm(), typeOf(getLhs()).getShape(), typeOf(getRhs()).getShape(), typeOf(getResult()).getShape()))
    return emitOpError("(C1) expected shapes that fit form ") << stringifyDotForm(getForm());
  return verifySides(*this, "(C2)");
}

llvm::LogicalResult ProductIntoOp::verify() { return verifySides(*this, "(C1)"); }

}  // namespace weft::cpu
