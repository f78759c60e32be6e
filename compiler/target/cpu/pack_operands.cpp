// Says how each tile lies in memory, and packs what products take.
//
// Before: tile.load, and products of a kind. After: every tile has a layout (#cpu.layout). A load is a cpu.view of the
// tensor, or a cpu.gather of the keys that a list names, and what is made of it for those that use it: an f32
// conversion (cpu.convert), queries in the lanes (cpu.pack), whole steps and pairs for products of bf16 (cpu.pad,
// cpu.pack); each once. The tiles of probabilities that these multiply are rounded (cpu.round). A cpu.product_into
// whose sums cannot all be added in place has memory for them (cpu.empty). Test: pack_operands.mlir
#include "compiler/passes.h"
#include "compiler/target/tensors.h"

namespace weft {

#define GEN_PASS_DEF_PACKOPERANDS
#include "compiler/Passes.h.inc"

namespace {

using cpu::Layout;
using cpu::ProductKind;
using cpu::Side;
using mlir::Value;

/// The kind and form of a product, and the side of it that a use is; none where it is no side of a product.
struct Use {
  ProductKind kind;
  tile::DotForm form;
  Side side;
};
std::optional<Use> useOf(mlir::OpOperand &operand) {
  auto of = [&](auto product) -> std::optional<Use> {
    const bool left = operand.getOperandNumber() == product.getLhsMutable().getOperandNumber();
    return Use{product.getKind(), product.getForm(), left ? Side::Left : Side::Right};
  };
  if (auto product = mlir::dyn_cast<cpu::ProductOp>(operand.getOwner())) return of(product);
  if (auto into = mlir::dyn_cast<cpu::ProductIntoOp>(operand.getOwner())) return of(into);
  return {};
}

/// The rows of one tile.load, in the layouts that their uses take.
class Operand {
 public:
  Operand(tile::KernelOp kernel, tile::LoadOp load) : load(load), builder(load) {
    auto tensor = mlir::cast<tile::TensorOp>(mlir::SymbolTable::lookupSymbolIn(kernel, load.getTensorAttr()));
    element = tensor.getElement();
    listed = target::rowsAreListed(kernel, tensor);
  }

  void run() {
    const mlir::Type type = load.getResult().getType();
    if (listed)
      rows = cpu::GatherOp::create(builder, load.getLoc(), cpu::withLayout(type, Layout::Rows, element),
                                   load.getTensor(), load.getBatch(), load.getHead(), load.getIndex());
    else
      rows = cpu::ViewOp::create(builder, load.getLoc(), cpu::withLayout(type, Layout::Strided, element),
                                 load.getTensor(), load.getBatch(), load.getHead(), load.getIndex());
    // Rows first: others are made of them.
    llvm::SmallVector<mlir::OpOperand *> rowUses, packedUses;
    for (mlir::OpOperand &use : load.getResult().getUses())
      (taken(use).layout == Layout::Strided ? rowUses : packedUses).push_back(&use);
    llvm::stable_sort(packedUses, [](auto *x, auto *y) { return taken(*x).layout > taken(*y).layout; });
    for (mlir::OpOperand *use : rowUses) use->set(inRows(taken(*use)));
    for (mlir::OpOperand *use : packedUses) use->set(packed(taken(*use)));
    load.erase();
  }

 private:
  tile::LoadOp load;
  mlir::OpBuilder builder;
  mlir::Type element;
  bool listed;
  Value rows;              ///< in the tensor's type
  Value whole, converted;  ///< for products: of bf16, in whole steps (a kernel's are all of one kind); of f32
  llvm::SmallDenseMap<Layout, Value, 4> packedAs;

  /// What is no side of a product reads rows of f32.
  static cpu::Taken taken(mlir::OpOperand &operand) {
    const auto use = useOf(operand);
    return use ? cpu::taken(use->kind, use->form, use->side) : cpu::Taken{Layout::Strided, false, 1};
  }

  /// All rows of the tile, those past the tensor's end zero.
  Value padded(const cpu::Taken &as) {
    if (!whole)
      whole = cpu::PadOp::create(builder, load.getLoc(),
                                 cpu::withLayout(rows.getType(), Layout::Strided, {}, wholeSteps(as)), rows);
    return whole;
  }

  Value inRows(const cpu::Taken &as) {
    if (as.stored) return rows;
    // Registers of AMX take rows that are not there.
    if (as.half) return as.step == 2 ? rows : padded(as);
    if (dialect::isReal(element)) return rows;
    if (!converted)
      converted =
          cpu::ConvertOp::create(builder, load.getLoc(),
                                 cpu::withLayout(rows.getType(), Layout::Rows, dialect::realType(builder.getContext())),
                                 rows);
    return converted;
  }

  Value packed(const cpu::Taken &as) {
    Value &result = packedAs[as.layout];
    if (result) return result;
    // What transposes bf16 reads all rows.
    Value source = as.half && as.layout == Layout::Columns ? padded(as) : rows;
    const int64_t columns = load.getResult().getType().getDimSize(1);
    result = cpu::PackOp::create(builder, load.getLoc(),
                                 cpu::withLayout(rows.getType(), as.layout,
                                                 as.half ? mlir::FloatType(builder.getBF16Type())
                                                         : dialect::realType(builder.getContext()),
                                                 as.layout == Layout::ColumnPairs ? wholeSteps(as) : columns),
                                 source);
    return result;
  }

  /// The columns, up to whole steps of a product.
  int64_t wholeSteps(const cpu::Taken &as) {
    return (load.getResult().getType().getDimSize(1) + as.step - 1) / as.step * as.step;
  }
};

void setLayout(Value tile, Layout layout) { tile.setType(cpu::withLayout(tile.getType(), layout)); }
bool isTile(Value value) {
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(value.getType());
  return type && type.getRank() == 2;
}

/// Of what the kernel computes: queries fill the lanes, but for sums of keys, which lie row after row.
void setLayouts(mlir::Operation *op) {
  if (auto fill = mlir::dyn_cast<tile::FillOp>(op)) {
    if (isTile(fill.getResult()))
      setLayout(fill.getResult(), fill.getSide() == tile::Side::Query ? Layout::Columns : Layout::Rows);
  } else if (auto loop = mlir::dyn_cast<tile::ForOp>(op)) {
    for (auto [init, argument, result] : llvm::zip(loop.getInits(), loop.getRegionIterArgs(), loop.getResults())) {
      argument.setType(init.getType());
      result.setType(init.getType());
    }
  } else if (auto product = mlir::dyn_cast<cpu::ProductOp>(op)) {
    if (product.getAcc()) product.getResult().setType(product.getAcc().getType());
    else setLayout(product.getResult(), Layout::Columns);
  } else if (mlir::isa<tile::ScaleOp, tile::ScaleRowsOp>(op)) {
    op->getResult(0).setType(op->getOperand(0).getType());
  } else if (mlir::isa<tile::PairwiseOp, tile::ScanSumOp>(op)) {
    for (Value result : op->getResults())
      if (isTile(result)) setLayout(result, Layout::Columns);
  }
}

/// The left side of a product of bf16 with rows is a tile of pairs of a query and a key, in f32.
template <class Product>
void roundLeft(Product product) {
  if (!cpu::taken(product.getKind(), product.getForm(), Side::Left).half || product.getForm() == tile::DotForm::NT)
    return;
  mlir::OpBuilder builder(product);
  const cpu::Taken as = cpu::taken(product.getKind(), product.getForm(), Side::Left);
  Value lhs = product.getLhs();
  product.getLhsMutable().assign(cpu::RoundOp::create(builder, product.getLoc(),
                                                      cpu::withLayout(lhs.getType(), as.layout, builder.getBF16Type()),
                                                      lhs, product.getRhs()));
}

/// Sums of listed keys belong to rows far apart; registers of AMX reach past the last key.
void addMemory(tile::KernelOp kernel, cpu::ProductIntoOp into) {
  auto tensor = mlir::cast<tile::TensorOp>(mlir::SymbolTable::lookupSymbolIn(kernel, into.getTensorAttr()));
  if (into.getKind() != ProductKind::Amx && !target::rowsAreListed(kernel, tensor)) return;
  mlir::OpBuilder builder(into);
  const auto type =
      mlir::RankedTensorType::get({static_cast<int64_t>(kernel.getTileK()), into.getRhs().getType().getDimSize(1)},
                                  dialect::realType(builder.getContext()));
  into.getByMutable().assign(cpu::EmptyOp::create(builder, into.getLoc(), cpu::withLayout(type, Layout::Rows)));
}

void pack(tile::KernelOp kernel) {
  kernel.walk([&](tile::LoadOp load) { Operand(kernel, load).run(); });
  kernel.walk<mlir::WalkOrder::PreOrder>([](mlir::Operation *op) { setLayouts(op); });
  kernel.walk([](cpu::ProductOp product) { roundLeft(product); });
  kernel.walk([&](cpu::ProductIntoOp into) {
    roundLeft(into);
    addMemory(kernel, into);
  });
}

struct PackOperands : impl::PackOperandsBase<PackOperands> {
  using PackOperandsBase::PackOperandsBase;
  void runOnOperation() override {
    getOperation().walk([](tile::KernelOp kernel) { pack(kernel); });
  }
};

}  // namespace
}  // namespace weft
