// Models as files of safetensors, to and from other programs.
#pragma once

#include <string>

#include "models/checkpoint.h"

namespace weft {

/// The bytes of a file with all parameters under their names, and in its metadata the config and the step.
std::string exportModel(Checkpoint &checkpoint);
/// Whether `path` is named as such files are.
bool isExported(const std::string &path);
/// Config, step and weights of such a file; errors name `path`. Throws std::runtime_error where the bytes are of no
/// such file, say nothing of a config, or hold other tensors than the config asks for.
Checkpoint importModel(const std::string &bytes, const std::string &path, torch::Device device = torch::kCPU);
/// Puts the weights of a checkpoint or of a file of safetensors, which need not say its config, into `model`. Throws
/// std::runtime_error where they are of another model.
void loadWeights(Gpt &model, const std::string &place);

}  // namespace weft
