// One call of attention whose sequence several processes share: which pieces of keys a query needs, how they come, and
// what is computed of them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <torch/types.h>

#include "models/sequence_share.h"
#include "ops/pieces.h"

namespace weft {

class SharedAttention {
 public:
  /// `tensors`: of the own tokens, those of each own piece one behind the other.
  SharedAttention(SequenceShare &share, const std::string &variant, const std::vector<std::string> &names,
                  const std::vector<torch::Tensor> &tensors);

  /// Asks the other processes for what the passes need to know.
  void prepare();
  /// The same as `prepared` gave after the forward pass.
  void prepare(const std::vector<torch::Tensor> &known);
  std::vector<torch::Tensor> prepared() const { return {needs, selection}; }

  /// o [B, H, T, E] and rows [rowsKept, B, H, T] of the own queries.
  std::tuple<torch::Tensor, torch::Tensor> forward();
  /// Gradients of `tensors`, undefined for those that are no floats.
  std::vector<torch::Tensor> backward(const torch::Tensor &o, const torch::Tensor &rows, const torch::Tensor &dO);

 private:
  enum class Side { All, Queries, Keys };
  struct Input {
    Side side = Side::All;
    int64_t axis = -1;      ///< the dim T or S
    int64_t tokens = 1;     ///< that an entry of this dim stands for: of lists of keys those that share one
    bool isRow = false;     ///< of each token and head features that are read in products alone: what is large
    bool isPooled = false;  ///< such rows are looked at by a select
  };
  /// In the order of the inputs; undefined where they are not meant.
  using Tensors = std::vector<torch::Tensor>;
  /// Of a piece the tokens that are meant, counted from its first one.
  struct Part {
    int64_t piece = 0;
    ops::KeyRange tokens;
  };
  using Piece = std::pair<Part, Tensors>;
  struct Arriving {
    std::unique_ptr<Pending> pending;
    torch::Tensor sent, received;
    std::vector<std::pair<Part, int64_t>> parts;  ///< each, and where it begins in `received`
  };
  class Gradients;

  SequenceShare &share;
  const std::string variant;
  const std::vector<std::string> names;
  const Tensors tensors;
  std::shared_ptr<const Variant> facts;
  std::vector<Input> inputs;
  int64_t length = 0;   ///< tokens of a piece
  bool whole = false;   ///< a query needs all its keys at once: they are gathered
  torch::Tensor needs;  ///< i32 [pieces, pieces, 2]: of a piece of keys (columns) those that queries (rows) see
  torch::Tensor
      selection;  ///< the tiles that the variant chooses, of the whole sequence; undefined where it chooses none

  Part wholePiece(int64_t piece) const { return {piece, {0, length}}; }
  torch::Tensor findNeeds();
  torch::Tensor findSelection();
  std::vector<int64_t> ownPieces() const { return share.piecesOf(share.rank); }
  int64_t peer(int64_t step) const { return (share.rank + step + share.size) % share.size; }
  /// Of a piece of keys those that a piece of queries sees.
  ops::KeyRange needed(int64_t queries, int64_t keys) const;
  /// Of a process's keys those that another one's queries need.
  std::vector<Part> wanted(int64_t owner, int64_t by) const;
  /// True where any process waits for one of another's pieces in this step. All know the same.
  bool anyIn(int64_t step) const;

  /// Inputs of this side, of one of the own pieces.
  Tensors own(Side side, int64_t piece) const;
  /// Of inputs of keys those of fewer tokens; `first`: of the token that they begin with.
  Tensors narrowed(const Tensors &keys, const ops::KeyRange &tokens, int64_t first = 0) const;
  /// Bytes of the tensors that are there, from places that any type can be read at.
  static torch::Tensor packed(const std::vector<Tensors> &pieces);
  Tensors unpacked(const torch::Tensor &bytes, int64_t &begin, const Tensors &like) const;
  /// For each process `sent`; from each these parts of pieces that are like `like`.
  Arriving exchange(const std::vector<std::vector<Tensors>> &sent, const std::vector<std::vector<Part>> &received,
                    const Tensors &like);
  std::vector<Piece> arrived(Arriving &arriving, const Tensors &like) const;
  /// The keys that go to the process `step` further on, and come from the one `step` before.
  Arriving begin(int64_t step);
  /// Of this side the tensors of the whole sequence, of the inputs that `isMeant`.
  Tensors gathered(Side side, const std::function<bool(const Input &)> &isMeant);
  Tensors allKeys() {
    return gathered(Side::Keys, [](const Input &) { return true; });
  }

  ops::Names pieceNames() const;
  /// A call of one of the own pieces of queries, and of keys that begin with the sequence's token `first`.
  Tensors pieceTensors(int64_t queries, const Tensors &keys, int64_t first) const;
  /// Keys without one, for what a row has but once.
  Tensors noKeys() const;
  /// Calls `visit` for each own piece of queries, by its number among them, and the keys that it needs, as they come:
  /// of a part of a piece those `seen`. `stepDone` is called behind those that come in one step.
  void visitPairs(
      const std::function<void(int64_t own, const Part &part, const ops::KeyRange &seen, const Tensors &keys)> &visit,
      const std::function<void(int64_t step)> &stepDone);
};

}  // namespace weft
