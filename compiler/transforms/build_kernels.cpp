#include "compiler/transforms/build_kernels.h"

#include "compiler/internal_error.h"
#include "compiler/normalizers/normalizer.h"
#include "compiler/transforms/build_backward.h"
#include "compiler/transforms/kernel_builder.h"
#include "compiler/transforms/signature.h"

namespace weft {

using dialect::Dependence;

/// What an accumulated element depends on, by the index used after the leading dims; `keyDim` counts the program's
/// keys.
static Dependence dependence(const std::vector<InputDescription> &inputs, dialect::AccumulateOp op,
                             llvm::StringRef keyDim) {
  mlir::Block &block = *op->getBlock();
  for (const InputDescription &input : inputs) {
    if (op.getInput() != input.name) continue;
    const size_t own = input.dims.size() - input.leading();
    if (own == 0) return Dependence::Head;
    if (own == 1 && op.getIndices().back() == block.getArgument(2) && input.dims.back() == "T")
      return Dependence::Query;
    if (own == 1 && op.getIndices().back() == block.getArgument(3) && input.dims.back() == keyDim)
      return Dependence::Key;
  }
  return Dependence::Any;
}

std::map<std::string, dialect::Dependence> gradientDependence(mlir::ModuleOp module) {
  // One buffer an input: reads that differ in kind meet in the most general one.
  const auto inputs = describedInputs(module);
  std::map<std::string, dialect::Dependence> result;
  module.walk([&](dialect::AccumulateOp op) {
    const std::string program = op->getParentOfType<dialect::PairwiseOp>().getSymName().str();
    const size_t dot = program.find('.');
    const Dependence per = dependence(inputs, op, dot == std::string::npos ? "S" : program.substr(dot + 1));
    auto [entry, fresh] = result.try_emplace(op.getInput().str(), per);
    if (!fresh && entry->second != per) entry->second = Dependence::Any;
  });
  return result;
}

void buildKernel(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape) {
  KernelBuilder builder(module, shape);
  const auto [name, keyDim] = llvm::StringRef(kernel).split('.');
  if (name == "forward" || name == "backward_delta") {
    builder.begin(kernel, tile::Grid::Query);
    const QueryTile at{builder.arg(0), builder.arg(1), builder.arg(2)};
    const Normalizer &normalizer = normalizerOf(module);
    name == "forward" ? normalizer.forward(builder, at) : normalizer.delta(builder, at);
  } else if (name == "backward") {
    buildBackward(builder);
  } else if (name == "backward_queries") {
    buildBackwardByQueries(builder);
  } else if (name == "backward_keys") {
    buildBackwardByKeys(builder, keyDim.empty() ? "S" : keyDim);
  } else if (name == "backward_sink") {
    buildSinkBackward(builder);
  } else if (name == "backward_dq") {
    buildDq(builder);
  } else if (name == "backward_dkdv") {
    buildDkDv(builder, keyDim.empty() ? "S" : keyDim);
  } else {
    throw InternalError("build_kernels", "no kernel named " + kernel);
  }
}

}  // namespace weft
