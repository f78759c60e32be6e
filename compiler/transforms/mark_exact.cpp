// Marks int arithmetic of the pairwise programs that cannot leave 32 bits, whatever the inputs hold: everything made of
// positions, dims and constants alone, as a rule. The rest saturates, which costs a few instructions a pair.
//
// Before: weft.map Sub %i, %j    After: weft.map Sub exact %i, %j    Test: mark_exact.mlir
#include <algorithm>
#include <limits>

#include "compiler/dims.h"
#include "compiler/kernel_image.h"
#include "compiler/origin_dims.h"
#include "compiler/passes.h"
#include "compiler/transforms/scalar_builder.h"
#include "llvm/ADT/DenseMap.h"

namespace weft {

#define GEN_PASS_DEF_MARKEXACT
#include "compiler/Passes.h.inc"

namespace {

/// Bounds of an int for all inputs.
struct Range {
  int64_t lo = std::numeric_limits<int32_t>::min(), hi = std::numeric_limits<int32_t>::max();

  bool fits() const { return lo >= Range().lo && hi <= Range().hi; }
  Range saturated() const { return {std::clamp(lo, Range().lo, Range().hi), std::clamp(hi, Range().lo, Range().hi)}; }
};

using Ranges = llvm::DenseMap<mlir::Value, Range>;

Range positions() { return {0, largestExtent - 1}; }

/// The result before it saturates. Operands have 32 bits: no product of two leaves 64.
Range resultOf(Function function, llvm::ArrayRef<Range> x) {
  switch (function) {
    case Function::Neg: return {-x[0].hi, -x[0].lo};
    case Function::Add: return {x[0].lo + x[1].lo, x[0].hi + x[1].hi};
    case Function::Sub: return {x[0].lo - x[1].hi, x[0].hi - x[1].lo};
    case Function::Mul: {
      const auto [lo, hi] = std::minmax({x[0].lo * x[1].lo, x[0].lo * x[1].hi, x[0].hi * x[1].lo, x[0].hi * x[1].hi});
      return {lo, hi};
    }
    case Function::Abs: {
      const auto [least, greatest] = std::minmax({std::abs(x[0].lo), std::abs(x[0].hi)});
      return {x[0].lo <= 0 && x[0].hi >= 0 ? 0 : least, greatest};
    }
    // No further from 0 than the dividend; of 0 below.
    case Function::FloorDiv: {
      const int64_t most = std::max(std::abs(x[0].lo), std::abs(x[0].hi));
      return {x[0].lo >= 0 && x[1].lo >= 0 ? 0 : -most, most};
    }
    case Function::BitAnd:
      if (x[0].lo < 0 && x[1].lo < 0) return {};
      return {0, std::min(x[0].lo < 0 ? Range().hi : x[0].hi, x[1].lo < 0 ? Range().hi : x[1].hi)};
    case Function::BitOr:
    case Function::BitXor:
      if (x[0].lo < 0 || x[1].lo < 0) return {};
      return Range{0, x[0].hi + x[1].hi}.saturated();
    case Function::ShiftLeft: {
      auto shifted = [](int64_t value, int64_t by) { return value * (int64_t{1} << std::clamp<int64_t>(by, 0, 31)); };
      return {std::min(shifted(x[0].lo, x[1].lo), shifted(x[0].lo, x[1].hi)),
              std::max(shifted(x[0].hi, x[1].lo), shifted(x[0].hi, x[1].hi))};
    }
    case Function::ShiftRight: return {std::min<int64_t>(x[0].lo, 0), std::max<int64_t>(x[0].hi, 0)};
    // The divisor's sign, and less than it.
    case Function::Mod: return {std::min<int64_t>(x[1].lo, 0), std::max<int64_t>(x[1].hi, 0)};
    case Function::Min: return {std::min(x[0].lo, x[1].lo), std::min(x[0].hi, x[1].hi)};
    case Function::Max: return {std::max(x[0].lo, x[1].lo), std::max(x[0].hi, x[1].hi)};
    case Function::Clamp:
      return {std::min(std::max(x[0].lo, x[1].lo), x[2].lo), std::min(std::max(x[0].hi, x[1].hi), x[2].hi)};
    case Function::Select: return {std::min(x[1].lo, x[2].lo), std::max(x[1].hi, x[2].hi)};
    default: return {};
  }
}

/// `ranges` holds those of all ints above.
Range rangeOf(mlir::Operation &op, const Ranges &ranges) {
  if (auto value = dialect::constantOf(op.getResult(0)))
    return {static_cast<int64_t>(*value), static_cast<int64_t>(*value)};
  if (auto dim = mlir::dyn_cast<dialect::DimOp>(op)) {
    const llvm::StringRef name = dim.getDim();
    const bool limited = isLeadingDim(name) || name == "T" || name == "S" || llvm::is_contained(originDims, name);
    return {0, limited ? largestExtent : Range().hi};
  }
  auto map = mlir::dyn_cast<dialect::MapOp>(op);
  if (!map) return {};
  llvm::SmallVector<Range, 3> x;
  for (mlir::Value arg : map.getArgs()) x.push_back(arg.getType().isInteger(32) ? ranges.lookup(arg) : Range());
  const Range result = resultOf(map.function(), x);
  if (canSaturate(map.function()) && result.fits()) map.setExact(true);
  return result.saturated();
}

struct MarkExact : impl::MarkExactBase<MarkExact> {
  void runOnOperation() override {
    for (auto program : getOperation().getOps<dialect::PairwiseOp>()) {
      mlir::Block &block = program.getBody().front();
      Ranges ranges;
      for (mlir::Value coordinate : block.getArguments()) ranges[coordinate] = positions();
      for (mlir::Operation &op : block)
        if (op.getNumResults() == 1 && op.getResult(0).getType().isInteger(32))
          ranges[op.getResult(0)] = rangeOf(op, ranges);
    }
  }
};

}  // namespace
}  // namespace weft
