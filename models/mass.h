// What a selection misses: of each row the share of exact attention's mass that lies on the keys it keeps.
//
// The mass is exp(log-sum-exp of the kept keys - log-sum-exp of all keys), from two calls of the operator: nothing of
// size T x S is made. Which keys are kept, and what exact attention is, says models/mass_texts.h. Each layer is
// measured on what it is given by the model with its own attention.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/gpt.h"
#include "models/mass_texts.h"
#include "models/processes.h"

namespace weft {

struct HeadMass {
  int64_t layer, head;
  double mean = 0;   ///< of the mass, over all rows
  double low = 0;    ///< one row of a hundred has this mass or less; in steps of 1e-4, rounded down
  double least = 0;  ///< of any row; the same
  double pairs = 0;  ///< kept pairs, a share of those up to the query
  double tiles = 0;  ///< kept tiles, a share of the tiles of a dense [T, T] kernel, as keys of lists are counted
};

struct MassFigures {
  std::vector<HeadMass> heads;  ///< layer by layer
  int64_t bytes = 0;            ///< queries of each head
  double exactTiles = 0;        ///< what exact attention keeps of the tiles
  bool complete = true;         ///< false after a signal: nothing is measured
};

/// Of an input of the selecting variant a value in place of its own: of each layer [heads] or [].
struct DialValues {
  std::string name;
  std::vector<torch::Tensor> layers;
};

class MassMeasure {
 public:
  /// `selecting` has the weights of `model` and the attention that selects (see withWeightsOf). The text, uint8
  /// [bytes], is read in windows of the context, one behind the other, up to `limit` bytes. Throws
  /// std::invalid_argument where the selecting variant's scores are not those of the model's attention, and where the
  /// text is shorter than a window.
  MassMeasure(Gpt model, Gpt selecting, const torch::Tensor &text, int64_t limit, std::shared_ptr<Processes> processes);

  /// All processes call it, and have the same figures. A terminal is told how far it is, behind `note`. Without
  /// `wholly` the means of the masses alone.
  MassFigures measure(const DialValues &dial = {}, bool wholly = true, const std::string &note = {});

  const MassTexts &texts() const { return made; }
  const Gpt &selecting() const { return other; }

 private:
  Gpt model, other;
  std::string variant;
  MassTexts made;
  bool ownAttention;
  std::vector<torch::Tensor> windows;  ///< int64 [context]
  std::shared_ptr<Processes> processes;
  std::vector<std::map<std::string, torch::Tensor>> numbers;  ///< of `other`, by layer

  AttentionInputs callOf(size_t layer, const AttentionInputs &own, const DialValues &dial) const;
};

}  // namespace weft
