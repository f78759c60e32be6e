#include "compiler/transforms/declare_tensors.h"

#include "compiler/internal_error.h"
#include "compiler/normalizers/normalizer.h"
#include "compiler/transforms/build_plan.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/StringSet.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace weft {
namespace {

class Declarations {
 public:
  Declarations(mlir::ModuleOp module, tile::KernelOp kernel, const KernelShape &shape, bool paged)
      : module(module),
        kernel(kernel),
        shape(shape),
        paged(paged),
        builder(module.getContext()),
        inputs(describedInputs(module)),
        rows(rowInputs(module)) {
    builder.setInsertionPointToStart(&kernel.getBody().front());
  }

  void run() {
    if (const KeyListDescription keys = describedKeys(module)) {
      kernel.setListedAttr(tile::ListedKeysAttr::get(builder.getContext(), reference(keys.input),
                                                     builder.getStringAttr(keys.dim), keys.tile));
      if (readsKeys()) declare(keys.input);
    }
    kernel.walk([&](tile::DotIntoOp op) { sums.insert(op.getTensor()); });
    kernel.walk([&](mlir::Operation *op) {
      if (auto sum = mlir::dyn_cast<dialect::AccumulateOp>(op)) {
        sum.setInput("d" + sum.getInput().str());
        if (sum.getPer() == dialect::Dependence::Key || sum.getPer() == dialect::Dependence::Any)
          shared.insert(sum.getInput());
      }
      if (auto loop = mlir::dyn_cast<tile::ForOp>(op); loop && loop.overKept()) loop.setPlanAttr(planOf(loop));
      for (mlir::NamedAttribute own : op->getAttrs()) {
        if (auto name = mlir::dyn_cast<mlir::FlatSymbolRefAttr>(own.getValue())) declare(name.getValue());
        if (auto list = mlir::dyn_cast<mlir::ArrayAttr>(own.getValue()))
          for (mlir::Attribute name : list)
            if (auto plan = mlir::dyn_cast<mlir::FlatSymbolRefAttr>(name)) declare(plan.getValue());
      }
      // A read outside its tensor raises the status.
      if (mlir::isa<dialect::ReadOp, dialect::AccumulateOp>(op)) declare("status");
      if (mlir::isa<dialect::RandomOp>(op)) declare("seed");
    });
    if (paged) declare("pages");
  }

 private:
  mlir::ModuleOp module;
  tile::KernelOp kernel;
  const KernelShape &shape;
  const bool paged;
  const ElementType real = floatsBeside(shape.type);  ///< of what is no row
  mlir::OpBuilder builder;
  std::vector<InputDescription> inputs;
  std::vector<std::string> rows;
  llvm::StringSet<> declared;
  llvm::StringSet<> sums;    ///< rows that products are added to
  llvm::StringSet<> shared;  ///< sums of entries that several pairs add to

  mlir::FlatSymbolRefAttr reference(llvm::StringRef name) {
    return mlir::FlatSymbolRefAttr::get(builder.getContext(), name);
  }

  std::string widthOf(llvm::StringRef name) {
    for (const InputDescription &input : inputs)
      if (input.name == name) return input.dims.back();
    throw InternalError("declare_tensors", "no input named " + name.str());
  }

  /// True where code follows the list of keys: in attention, not in the kernels that find kept tiles, which name it.
  bool readsKeys() {
    bool any = false;
    kernel.walk([&](tile::ForOp) { any = true; });
    return any;
  }

  /// [@band], or [@counts, @entries] by the side that the loop starts from.
  mlir::ArrayAttr planOf(tile::ForOp loop) {
    const std::string dim = loop.getKeyDim().str(), side = loop.overKeys() ? "" : "_keys";
    if (planForm(module, dim) == PlanForm::Band) return builder.getArrayAttr({reference(ofKeys("band", dim))});
    return builder.getArrayAttr({reference(ofKeys("counts" + side, dim)), reference(ofKeys("entries" + side, dim))});
  }

  mlir::Type typeOf(ElementType type) {
    switch (type) {
      case ElementType::F32: return builder.getF32Type();
      case ElementType::F64: return builder.getF64Type();
      case ElementType::BF16: return builder.getBF16Type();
      case ElementType::F16: return builder.getF16Type();
      case ElementType::I32: return builder.getI32Type();
      case ElementType::I64: return builder.getI64Type();
      case ElementType::Bool: return builder.getI1Type();
    }
    return {};
  }

  void create(llvm::StringRef name, mlir::Type element, llvm::ArrayRef<std::string> dims, tile::TensorRole role,
              bool strided = false) {
    llvm::SmallVector<llvm::StringRef> texts(dims.begin(), dims.end());
    const bool inPages = paged && strided && dims.size() == 4 && dims[2] == "S";
    tile::TensorOp::create(builder, kernel.getLoc(), name, element, builder.getStrArrayAttr(texts), role, strided,
                           inPages);
  }

  void declare(llvm::StringRef name) {
    if (!declared.insert(name).second) return;
    using Role = tile::TensorRole;
    for (const InputDescription &input : inputs) {
      const bool row = llvm::is_contained(rows, input.name), query = row && input.dims[2] == "T";
      if (name == input.name) {
        const ElementType own = row                       ? shape.type
                                : input.element == "int"  ? ElementType::I32
                                : input.element == "bool" ? ElementType::Bool
                                                          : real;
        return create(name, typeOf(own), input.dims, row ? Role::Operand : Role::Parameter, row);
      }
      if (name == "d" + input.name) {
        const bool wide = shape.wideSums && shared.contains(name) && hasWideSums(input.dims);
        const ElementType added = wide ? ElementType::F64 : real;
        return create(name, typeOf(query && !sums.contains(name) ? shape.type : added), input.dims, Role::Gradient,
                      row);
      }
    }
    if (name == "o" || name == "do")
      return create(name, typeOf(shape.type), {"B", "H", "T", widthOf("v")}, name == "o" ? Role::Result : Role::Operand,
                    true);
    for (const std::string &own : keptRows(factsOf(module), true))
      if (name == own) return create(name, typeOf(real), {"B", "H", "T"}, Role::Row);
    for (const RowState &own : factsOf(module).rows)
      if (name == own.tensor()) return create(name, typeOf(real), {"B", "H", "T"}, Role::Row);
    if (name == "dlse") return create(name, typeOf(real), {"B", "H", "T"}, Role::Row);
    if (name == selectedKeys) return create(name, builder.getI32Type(), {"B", "H", selectedRows, "S"}, Role::Plan);
    if (name == workspace) return create(name, builder.getI32Type(), {}, Role::Scratch);
    if (name.starts_with("pool.")) return create(name, builder.getF32Type(), {}, Role::Scratch);
    if (name == "selection" || name.starts_with("round.")) return create(name, builder.getI1Type(), {}, Role::Plan);
    if (name == "seed") return create(name, builder.getI64Type(), {}, Role::Control);
    if (name == "pages") return create(name, builder.getI32Type(), {"B", "pages"}, Role::Control);
    if (name == "status") return create(name, builder.getI32Type(), {}, Role::Control);
    for (const char *own : ownTensorsOfKeys)
      if (name.split('.').first == own) return create(name, builder.getI32Type(), {}, Role::Plan);
    if (name == selectedCounts) return create(name, builder.getI32Type(), {}, Role::Plan);
    throw InternalError("declare_tensors", "no tensor named " + name.str());
  }
};

}  // namespace

void declareTensors(mlir::ModuleOp module, tile::KernelOp kernel, const KernelShape &shape, bool paged) {
  Declarations(module, kernel, shape, paged).run();
}

}  // namespace weft
