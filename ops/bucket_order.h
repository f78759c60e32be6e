// Attention inside buckets (clusters, hashes): tokens sorted by bucket, so that a bucket's pairs lie in few tiles.
#pragma once

#include <torch/types.h>

namespace weft::ops {

/// Causal attention of each query to the keys of its bucket, for tokens in the order of the text: q [B, H, T, D], k and
/// v [B, G, S, D], buckets of integers [B, H, T] and [B, H, S]. Sorts on the tensors' device, computes
/// ops/variants/bucket.weft and puts the rows back; differentiable. A query whose bucket holds no key up to it gives 0.
/// Throws c10::Error on shapes that disagree.
torch::Tensor attentionByBucket(const torch::Tensor &q, const torch::Tensor &k, const torch::Tensor &v,
                                const torch::Tensor &queryBuckets, const torch::Tensor &keyBuckets);

}  // namespace weft::ops
