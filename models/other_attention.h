// A trained model with another attention in place of its own, or with other values of its inputs: what training-free
// methods do.
#pragma once

#include <string>
#include <vector>

#include "models/config.h"
#include "models/gpt.h"

namespace weft {

/// `config` with the model.attention and model.inputs of the JSON `text` (a config of the same model; empty: none),
/// then those of settings such as inputs.window=64. Inputs given before are those of the attention before: another one
/// begins without them. Throws std::invalid_argument for anything else that is set.
ModelConfig withOtherAttention(const ModelConfig &config, const std::string &text, const std::string &origin,
                               const std::vector<std::string> &settings);

/// A model of `config` with the weights of `model`, which differs from it as above; the same one where nothing differs.
/// Inputs are those of `model` where the attention is the same and no setting differs. Throws std::invalid_argument for
/// an attention with networks of its own: nothing would have trained them.
Gpt withWeightsOf(const Gpt &model, const ModelConfig &config);

}  // namespace weft
