// Processes that share each sequence (context parallelism): each has some of its tokens, and the keys and values of the
// others come to it while it computes (Liu, Zaharia and Abbeel, "Ring Attention with Blockwise Transformers", 2023).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/places.h"
#include "models/process_group.h"
#include "models/variant_inputs.h"

namespace weft {

class SequenceShare : public torch::CustomClassHolder {
 public:
  /// This is process `rank` of the `size` of `group`.
  SequenceShare(std::unique_ptr<ProcessGroup> group, int64_t rank, int64_t size);

  const int64_t rank, size;

  /// A sequence is cut into twice as many pieces as there are processes. Process r has the pieces r and 2 size - 1 - r:
  /// under a causal mask so much as any other has to compute.
  int64_t pieces() const { return 2 * size; }
  int64_t ownerOf(int64_t piece) const { return piece < size ? piece : pieces() - 1 - piece; }
  std::vector<int64_t> piecesOf(int64_t process) const { return {process, pieces() - 1 - process}; }
  /// Where the own tokens of a sequence stand. Throws std::runtime_error where it cannot be cut into equal pieces.
  Places places(int64_t length) const;

  /// o [B, H, T, E] of the own T queries over the keys of all processes, for inputs of the own tokens; what names
  /// neither T nor S is the same in all. With gradients: those of such inputs by way of the own queries. All call it in
  /// the same order, and so do their backward passes. Throws c10::Error for an input that names both, and LostProcess.
  torch::Tensor attend(const std::string &variant, const AttentionInputs &call);

  ProcessGroup &group() { return *own; }
  int64_t bytesSent = 0;  ///< to other processes, so far

 private:
  std::unique_ptr<ProcessGroup> own;
};

}  // namespace weft
