// Registration and verifiers of the `cta` dialect. Constraint labels are those of CtaOps.td.
#include "compiler/dialect/cta.h"

#include "llvm/ADT/TypeSwitch.h"
#include "mlir/IR/DialectImplementation.h"

#include "compiler/dialect/CtaDialect.cpp.inc"
#include "compiler/dialect/CtaEnums.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "compiler/dialect/CtaAttributes.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "compiler/dialect/CtaTypes.cpp.inc"
#define GET_OP_CLASSES
#include "compiler/dialect/CtaOps.cpp.inc"

namespace weft::cta {

void CtaDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "compiler/dialect/CtaOps.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "compiler/dialect/CtaAttributes.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "compiler/dialect/CtaTypes.cpp.inc"
      >();
}

// "<2x64x64xbf16, #cta.padded<pitch = 144>>"
mlir::Type SharedType::parse(mlir::AsmParser &parser) {
  llvm::SmallVector<int64_t> shape;
  mlir::Type element;
  mlir::Attribute layout;
  const llvm::SMLoc where = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseDimensionList(shape, /*allowDynamic=*/false) || parser.parseType(element) ||
      parser.parseComma() || parser.parseAttribute(layout) || parser.parseGreater())
    return {};
  if (shape.size() != 2 && shape.size() != 3) {
    parser.emitError(where, "expected 2 or 3 dims, got ") << shape.size();
    return {};
  }
  if (!mlir::isa<PaddedAttr, SwizzledAttr>(layout)) {
    parser.emitError(where, "expected a layout of shared memory, #cta.padded or #cta.swizzled, got ") << layout;
    return {};
  }
  return get(parser.getContext(), shape, element, layout);
}

void SharedType::print(mlir::AsmPrinter &printer) const {
  printer << '<';
  printer.printDimensionList(getShape());
  printer << 'x' << getElement() << ", " << getLayout() << '>';
}

int64_t SharedType::tileBytes() const {
  if (!isSwizzled()) return rows() * pitch();
  const int64_t rowBytes = columns() * getElement().getIntOrFloatBitWidth() / 8;
  return llvm::divideCeil(rowBytes, SwizzledAttr::panelBytes) * panelBytes();
}

SharedType SharedType::several(int64_t stages) const {
  return get(getContext(), {stages, rows(), columns()}, getElement(), getLayout());
}

SharedType SharedType::stage() const { return get(getContext(), getShape().take_back(2), getElement(), getLayout()); }

std::pair<mlir::Operation *, mlir::Operation *> usersIn(mlir::Block &block, mlir::Value value) {
  mlir::Operation *first = nullptr, *last = nullptr;
  for (mlir::Operation *user : value.getUsers()) {
    mlir::Operation *own = block.findAncestorOpInBlock(*user);
    if (!own) continue;
    if (!first || own->isBeforeInBlock(first)) first = own;
    if (!last || last->isBeforeInBlock(own)) last = own;
  }
  return {first, last};
}

int64_t groupsOf(MmaOp product) {
  const mlir::RankedTensorType type = product.getResult().getType();
  return type.getDimSize(0) / (16 * mlir::cast<MmaSyncAttr>(type.getEncoding()).getWarps());
}

bool hasSwizzled(tile::KernelOp kernel) {
  bool swizzled = false;
  kernel.walk([&](AllocOp alloc) { swizzled |= alloc.getResult().getType().isSwizzled(); });
  return swizzled;
}

llvm::LogicalResult StageOp::verify() {
  const SharedType buffer = getBuffer().getType();
  if (buffer.getShape().size() != 3 || getResult().getType() != buffer.stage())
    return emitOpError("(C1) expected one of the tiles of ") << buffer << ", got " << getResult().getType();
  return llvm::success();
}

llvm::LogicalResult RingOp::verify() {
  if (bufferType().getShape().size() != 3)
    return emitOpError("(C1) expected a buffer with a leading dim, got ") << bufferType();
  return llvm::success();
}

/// Of a ring and a cursor that go together.
static bool agree(mlir::Value ring, mlir::Value cursor) {
  auto tiles = ring.getDefiningOp<RingOp>();
  auto place = cursor.getDefiningOp<CursorOp>();
  return tiles && place && tiles.bufferType().stages() == static_cast<int64_t>(place.getStages());
}

llvm::LogicalResult FillOp::verify() {
  if (!agree(getRing(), getCursor())) return emitOpError("(C1) expected a ring and a cursor of as many tiles");
  if (getRing().getDefiningOp<RingOp>().getCarries() != static_cast<bool>(getFull()))
    return emitOpError("(C2) expected 'full' of a ring that carries, and of no other");
  return llvm::success();
}

llvm::LogicalResult CarriedOp::verify() {
  if (!agree(getRing(), getCursor()) || !getRing().getDefiningOp<RingOp>().getCarries())
    return emitOpError("(C1) expected a ring that carries, and a cursor of as many tiles");
  return llvm::success();
}

llvm::LogicalResult AcquireOp::verify() {
  if (!agree(getRing(), getCursor())) return emitOpError("(C1) expected a ring and a cursor of as many tiles");
  const SharedType buffer = getRing().getDefiningOp<RingOp>().bufferType();
  if (getResult().getType() != buffer.stage())
    return emitOpError("(C1) expected one of the tiles of ") << buffer << ", got " << getResult().getType();
  return llvm::success();
}

llvm::LogicalResult MmaOp::verify() {
  const bool left = mlir::isa<SharedType>(getLhs().getType());
  if (left == (getForm() == tile::DotForm::NN))
    return emitOpError("(C1) expected a left side in ") << (left ? "registers" : "shared memory");
  auto shapeOf = [](mlir::Type type) {
    if (auto shared = mlir::dyn_cast<SharedType>(type)) return shared.getShape();
    return mlir::cast<mlir::RankedTensorType>(type).getShape();
  };
  if (!tile::fits(getForm(), shapeOf(getLhs().getType()), shapeOf(getRhs().getType()), shapeOf(getResult().getType())))
    return emitOpError("(C2) expected shapes that fit form ") << stringifyDotForm(getForm());
  const mlir::Type element = getRhs().getType().getElement();
  const bool agrees = isBf16(getKind()) ? element.isBF16() : isF16(getKind()) ? element.isF16() : element.isF32();
  if (!agrees || (left && mlir::cast<SharedType>(getLhs().getType()).getElement() != element))
    return emitOpError("(C3) expected elements of ") << stringifyMmaKind(getKind()) << ", got " << element;
  for (mlir::Value operand : getOperands())
    if (auto shared = mlir::dyn_cast<SharedType>(operand.getType());
        shared && shared.isSwizzled() != isWgmma(getKind()))
      return emitOpError("(C4) expected operands in the layout of ") << stringifyMmaKind(getKind());
  if (getAsync() && !isWgmma(getKind()))
    return emitOpError("(C5) expected no async product, got one of ") << stringifyMmaKind(getKind());
  return llvm::success();
}

llvm::LogicalResult WaitMmaOp::verify() {
  for (mlir::Value product : getProducts())
    if (auto mma = product.getDefiningOp<MmaOp>(); !mma || !mma.getAsync())
      return emitOpError("(C1) expected products that are async");
  if (getProducts().getTypes() != getResults().getTypes())
    return emitOpError("(C2) expected results of the products' types");
  return llvm::success();
}

}  // namespace weft::cta
