// Attention of a query over keys that come piece by piece, forward and backward (Liu, Zaharia and Abbeel, "Ring
// Attention with Blockwise Transformers", 2023). Each piece is a call whose `origin` says where it stands.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

#include "compiler/origin.h"

namespace weft::ops {

using Names = std::vector<std::string>;

/// o [B, H, T, E] in the type of v, and rows [rowsKept, B, H, T], what a backward pass needs of each query. Records no
/// gradients.
std::tuple<torch::Tensor, torch::Tensor> forwardOfPiece(const std::string &variant, const Names &names,
                                                        const std::vector<torch::Tensor> &tensors);

/// Gradients by way of this piece's pairs, in the order of `tensors`; undefined for those that are no floats. `o` and
/// `rows` are those of all pieces, as JoinedRows gives them, `dO` is the cotangent of o.
std::vector<torch::Tensor> backwardOfPiece(const std::string &variant, const Names &names,
                                           const std::vector<torch::Tensor> &tensors, const torch::Tensor &o,
                                           const torch::Tensor &rows, const torch::Tensor &dO);

/// Some of the keys of a call, one behind the other.
struct KeyRange {
  int64_t first = 0, end = 0;
  bool empty() const { return end <= first; }
};
/// The keys of v among which those of all tiles are that the call keeps, of any head: whole tiles of keys, so that
/// tiles are cut the same where other keys are not there. Of rows nothing but their shapes is read, but for those of
/// rowsReadAlone.
KeyRange keptKeys(const std::string &variant, const Names &names, const std::vector<torch::Tensor> &tensors);

/// The map of tiles that a variant chooses, of a whole sequence: bool [B, H, query tiles, key tiles].
torch::Tensor selectTiles(const std::string &variant, const Names &names, const std::vector<torch::Tensor> &tensors);

/// What queries have got of their keys so far.
class JoinedRows {
 public:
  /// Throws c10::Error where a variant's rows need all their keys at once (Joining::None).
  explicit JoinedRows(const Variant &variant);

  /// One more piece of the keys: see forwardOfPiece.
  void add(const torch::Tensor &o, const torch::Tensor &rows);
  bool empty() const { return !sum.defined(); }
  const torch::Tensor &o() const { return sum; }  ///< f32, or f64 of calls in f64
  const torch::Tensor &rows() const { return kept; }

 private:
  bool byLogSumExp;
  int64_t scale = 0;  ///< the number of this one among the rows
  torch::Tensor sum, kept;
};

}  // namespace weft::ops
