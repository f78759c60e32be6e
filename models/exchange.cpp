#include "models/exchange.h"

#include <charconv>
#include <stdexcept>

#include <torch/utils.h>

#include "models/safetensors.h"
#include "models/tensor_text.h"
#include "models/user_files.h"

namespace weft {
namespace {

using torch::Tensor;

constexpr char configKey[] = "weft_config", stepKey[] = "weft_step";

/// All of them, and no others.
void put(Gpt &model, const std::map<std::string, Tensor> &weights, const std::string &origin) {
  torch::NoGradGuard guard;
  auto refuse = [&](const std::string &what) { throw std::runtime_error(origin + " is of another model: " + what); };
  const auto parameters = model->named_parameters();
  for (const auto &parameter : parameters) {
    const auto found = weights.find(parameter.key());
    if (found == weights.end()) refuse("it has no " + parameter.key());
    if (const std::string wrong = mismatch(found->second, parameter.value()); !wrong.empty())
      refuse(parameter.key() + wrong);
  }
  for (const auto &[name, weight] : weights)
    if (!parameters.contains(name)) refuse("it has a tensor '" + name + "'");
  for (const auto &parameter : parameters) parameter.value().copy_(weights.at(parameter.key()));
}

/// A config alone must not take the machine's memory.
void demandRoom(const ModelConfig &config, const TensorFile &file) {
  double numbers = 0;
  for (const auto &[name, weight] : file.tensors) numbers += static_cast<double>(weight.numel());
  const double width = static_cast<double>(config.width);
  const double least =
      12 * static_cast<double>(config.layers) * width * width + (256 + static_cast<double>(config.context)) * width;
  if (numbers < least)
    throw std::runtime_error("its config is of a model of at least " + std::to_string(static_cast<int64_t>(least)) +
                             " parameters, and it holds " + std::to_string(static_cast<int64_t>(numbers)));
}

}  // namespace

bool isExported(const std::string &path) { return path.ends_with(".safetensors"); }

std::string exportModel(Checkpoint &checkpoint) {
  TensorFile file;
  for (const auto &parameter : checkpoint.model->named_parameters()) file.tensors[parameter.key()] = parameter.value();
  // `format` is what transformers asks for.
  file.metadata = {{"format", "pt"},
                   {configKey, printConfig(checkpoint.config)},
                   {stepKey, std::to_string(checkpoint.step)}};
  return printTensors(file);
}

Checkpoint importModel(const std::string &bytes, const std::string &path, torch::Device device) {
  TensorFile file = parseTensors(bytes, path);
  if (!file.metadata.contains(configKey))
    throw std::runtime_error(path + " does not say its config (" + configKey +
                             " of its metadata); weft train --init takes its weights, with --config");
  Checkpoint checkpoint;
  const std::string &step = file.metadata[stepKey];
  std::from_chars(step.data(), step.data() + step.size(), checkpoint.step);
  try {
    checkpoint.config = parseConfig(file.metadata[configKey], configKey);
    demandRoom(checkpoint.config.model, file);
    checkpoint.model = Gpt(checkpoint.config.model);
  } catch (const std::exception &error) {
    throw std::runtime_error(path + " does not fit this program: " + error.what());
  }
  put(checkpoint.model, file.tensors, path);
  checkpoint.model->to(device);
  return checkpoint;
}

void loadWeights(Gpt &model, const std::string &place) {
  if (isExported(place)) return put(model, parseTensors(readWhole(place), place).tensors, place);
  const Checkpoint checkpoint = loadCheckpoint(place);
  std::map<std::string, Tensor> weights;
  for (const auto &parameter : checkpoint.model->named_parameters()) weights[parameter.key()] = parameter.value();
  put(model, weights, place);
}

}  // namespace weft
