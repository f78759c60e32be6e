#include "models/training.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include <torch/nn/utils/clip_grad.h>
#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include "models/checkpoint.h"
#include "models/exchange.h"
#include "models/settings.h"

namespace weft {
namespace {

using torch::Tensor;

/// Says which settings of training are no longer those of the checkpoint: the run then goes on otherwise than it would
/// have.
void noteChanges(const TrainConfig &before, const TrainConfig &now) {
  Config old{{}, before}, given{{}, now};
  for (const Setting &setting : allSettings()) {
    std::string was, is;
    setting.visit(old, [&](const auto &field) { was = nlohmann::json(field).dump(); });
    setting.visit(given, [&](const auto &field) { is = nlohmann::json(field).dump(); });
    if (was != is) std::fprintf(stderr, "%s was %s, is %s from here on\n", setting.name, was.c_str(), is.c_str());
  }
}

void demandFinite(Training &training, const StepFigures &figures, const std::string &precision) {
  if (std::isfinite(figures.loss) && std::isfinite(figures.gradientNorm)) return;
  std::string where;
  {
    const Autocast autocast(precision, training.model->device());
    where = training.model->firstNonFinite(figures.tokens);
  }
  if (where.empty()) where = std::isfinite(figures.loss) ? "a gradient" : "the loss itself";
  throw Diverged("step " + std::to_string(training.step) + ": the loss is " + std::to_string(figures.loss) +
                 "; the first value that is not finite is in " + where +
                 ". The last checkpoint is untouched; a lower train.lr may help, under Muon a lower train.muon_lr");
}

}  // namespace

Training begin(const TrainOptions &options, Config &config) {
  const std::string path = checkpointIn(options.directory);
  Processes &processes = *options.processes;
  const std::string archive = processes.fromFirst([&]() -> std::string {
    if (!std::filesystem::exists(path)) return {};
    if (!options.resume && !processes.restarted())
      throw std::runtime_error(path + " exists; go on with --resume, or give a new --out");
    return readCheckpoint(path);
  });
  torch::manual_seed(config.train.seed);
  Training training;
  auto prepare = [&] {
    config.train.precision =
        processes.fromFirst([&] { return resolvePrecision(config.train.precision, options.device); });
    training.model->recompute = config.train.recompute == "blocks";
    training.optimizer = std::make_unique<Optimizer>(training.model, config.train);
    training.scale = LossScale(config.train.precision);
  };
  if (archive.empty()) {
    training.model = Gpt(config.model);
    if (!options.init.empty() && processes.first()) loadWeights(training.model, options.init);
    training.model->to(options.device);
    prepare();
  } else {
    Checkpoint checkpoint = parseCheckpoint(archive, path, options.device);
    if (printConfig({checkpoint.config.model, {}}) != printConfig({config.model, {}}))
      throw std::runtime_error("the checkpoint in " + options.directory +
                               " is of another model; resume with its config, or give a new --out");
    if (config.train.precision == "auto") config.train.precision = checkpoint.config.train.precision;
    training.model = checkpoint.model;
    training.step = checkpoint.step;
    training.fromCheckpoint = true;
    prepare();
    if (processes.first()) noteChanges(checkpoint.config.train, config.train);
    loadOptimizer(checkpoint, *training.optimizer);
    if (checkpoint.config.train.precision == "f16") training.scale.restore(checkpoint.lossScale);
    if (checkpoint.config.train.validateBytes == config.train.validateBytes) training.bpc = checkpoint.bpc;
  }
  processes.copyFromFirst(training.model->parameters());
  if (config.train.contextParallel > 1) training.model->share = processes.share(config.train.contextParallel);
  return training;
}

std::optional<StepFigures> takeStep(Training &training, const Config &config, Processes &processes, Batches &batches) {
  const TrainConfig &settings = config.train;
  Gpt &model = training.model;
  const std::vector<Tensor> parameters = model->parameters();
  const int64_t context = config.model.context;
  const Places places = model->share ? model->share->places(context) : Places{{0, context}};
  // The state of a step follows from the seed and its number alone, so a resumed run repeats it.
  torch::manual_seed(processes.seed(settings.seed * 1000003 + training.step));
  StepFigures figures;
  const double share = learningRateShare(settings, training.step);
  figures.learningRate = share * settings.lr;
  figures.lossScale = training.scale.value();
  training.optimizer->zeroGradients();
  for (int64_t part = 0; part < settings.accumulate; ++part) {
    if (part > 0 ? processes.askInterrupted() : processes.interrupted()) return std::nullopt;
    const auto [inputs, targets] = batches.take(training.step * settings.accumulate + part);
    figures.tokens = inputs;
    Tensor logits, reach;
    {
      const Autocast autocast(settings.precision, model->device());
      logits = model->forward(at(places, inputs, 1));
      reach = model->reachCost();
    }
    const Tensor entropy =
        torch::cross_entropy_loss(logits.to(torch::kFloat).view({-1, 256}), at(places, targets, 1).reshape({-1}));
    const Tensor total = (entropy + settings.spanReg * reach) / settings.accumulate;
    processes.backward(total * training.scale.value(), parameters,
                       part + 1 < settings.accumulate ? Gradients::Own
                       : model->recompute             ? Gradients::MeansAfterwards
                                                      : Gradients::Means);
    figures.loss += entropy.item<double>() / static_cast<double>(settings.accumulate);
  }
  figures.loss = processes.mean(figures.loss);
  if (training.scale.isActive())
    for (const Tensor &parameter : parameters)
      if (parameter.grad().defined()) parameter.mutable_grad().div_(training.scale.value());
  figures.gradientNorm = torch::nn::utils::clip_grad_norm_(parameters, settings.clip > 0 ? settings.clip : HUGE_VAL);
  // Gradients that a scale took out of f16's range leave the weights as they are.
  const bool mendable = std::isfinite(figures.loss) && training.scale.value() > LossScale::least;
  const bool taken = training.scale.update(std::isfinite(figures.gradientNorm));
  if (taken || !mendable) demandFinite(training, figures, settings.precision);
  if (taken) training.optimizer->step(share);
  ++training.step;
  return figures;
}

}  // namespace weft
