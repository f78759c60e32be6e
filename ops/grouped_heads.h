// Decoding of heads that share keys: the heads of a group as the queries of one call (compiler/grouped.h), which reads
// the group's keys once; and of few groups with many keys, which several threads or multiprocessors share.
#pragma once

#include <memory>
#include <vector>

#include "ops/arguments.h"
#include "runtime/device.h"

namespace weft::ops {

/// How many pieces the keys of a group are cut into where the newest query is a call of its own: more than 1 where
/// cores, or multiprocessors of a large GPU, would have nothing to do.
int64_t piecesOfKeys(const Variant &variant, int64_t keys, int64_t groups, const Device &device);

/// Torch's kernels around a call in pieces: rows for each of them, and joining.
inline constexpr int kernelsOfPieces = 6;

struct GroupedCall {
  std::shared_ptr<const Variant> variant;  ///< null: heads are not grouped
  int64_t pieces = 1;                      ///< of the keys of a group

  explicit operator bool() const { return variant != nullptr; }
};

/// Of a variant that has the parameter `origin` or `lengths`. How many sequences there are plays no part: a sequence's
/// bits do not hang on the others.
GroupedCall groupedCall(const std::shared_ptr<const Variant> &variant, const Arguments &arguments,
                        const Device &device);
/// The call's tensors as those of the grouped variant: without a copy, but of pieces each has a row of its own of what
/// heads have.
std::vector<at::Tensor> groupedTensors(const GroupedCall &grouped, const Arguments &arguments, at::TensorList tensors);
/// o [B, H, 1, E] of the grouped call's o and of the log-sum-exp of its rows; null where they add up.
at::Tensor joinedHeads(const GroupedCall &grouped, const at::Tensor &o, const at::Tensor &logSumExp);

}  // namespace weft::ops
