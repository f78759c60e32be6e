// Periodic masks on tokens sorted by phase: the same attention, with kept pairs in few tiles.
#pragma once

#include <map>
#include <string>
#include <tuple>

#include <torch/types.h>

#include "compiler/compiler.h"

namespace weft::ops {

/// The order that sorts positions 0 .. length - 1 by (position mod period[h]) inside chunks, stable: int64 [H, length],
/// and the phases in that order, f32 [H, length]. Throws c10::Error where period is not [H], positive.
std::tuple<torch::Tensor, torch::Tensor> phaseOrder(const torch::Tensor &period, int64_t length, int64_t chunk);

/// The chunk with which span_periodic_sorted computes the fewest tiles, or 0 where the tiles it saves do not pay for
/// its longer mask and for sorting. Inputs as in ops/variants/span_periodic.weft; counts the tiles that the kernels
/// would compute.
int64_t phaseChunk(const torch::Tensor &q, const torch::Tensor &k, const torch::Tensor &v, const torch::Tensor &span,
                   const torch::Tensor &period, const torch::Tensor &ratio);

/// span_periodic by way of span_periodic_sorted; differentiable. `chunk` 0: unsorted; below 0: as phaseChunk says.
torch::Tensor attentionByPhase(const torch::Tensor &q, const torch::Tensor &k, const torch::Tensor &v,
                               const torch::Tensor &span, const torch::Tensor &period, const torch::Tensor &ratio,
                               int64_t chunk);

/// What a sample call of span_periodic_sorted is given beside q, k and v for its tokens to lie by phase: periods of 4,
/// places and phases; of other variants nothing.
std::map<std::string, torch::Tensor> sampleByPhase(const Variant &variant, int64_t heads, int64_t length);

}  // namespace weft::ops
