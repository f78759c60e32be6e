// Decoding of heads that share keys: the heads of a group as the queries of one call (compiler/grouped.h), which reads
// the group's keys once.
#pragma once

#include <memory>
#include <vector>

#include "ops/arguments.h"

namespace weft::ops {

/// The variant, which has the parameter `origin` or `lengths`, with its heads grouped; null where a call of these
/// arguments has no groups, or more queries than one. How many sequences there are plays no part: a sequence's bits do
/// not hang on the others.
std::shared_ptr<const Variant> withGroupedHeads(const std::shared_ptr<const Variant> &variant,
                                                const Arguments &arguments);
/// The call's tensors as those of the grouped variant, without a copy.
std::vector<at::Tensor> groupedHeads(const Arguments &arguments, at::TensorList tensors);

}  // namespace weft::ops
