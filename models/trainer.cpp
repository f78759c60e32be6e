#include "models/trainer.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "models/checkpoint.h"
#include "models/event_file.h"
#include "models/exchange.h"
#include "models/gpt.h"
#include "models/interrupt.h"
#include "models/keeper.h"
#include "models/metrics.h"
#include "models/optimizer.h"
#include "models/precision.h"
#include "models/progress.h"
#include "models/run_lock.h"
#include "models/settings.h"
#include "models/user_files.h"
#include "models/validation.h"

namespace weft {
namespace {

using torch::Tensor;

/// A step's memory is taken piece by piece, and a system that runs out ends the process without a word.
void demandMemory(const Config &config) {
  // What the backward pass of a token keeps at least: of a block two norms, q, k, v, o, the sum, and the network's
  // inner layer twice, four times as wide; the logits and their gradient.
  const double floats =
      static_cast<double>(config.model.layers) * 15 * static_cast<double>(config.model.width) + 2 * 256;
  const double needed =
      4 * floats * static_cast<double>(config.train.batch) * static_cast<double>(config.model.context);
  const double all = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  auto text = [](double bytes) { return std::to_string(static_cast<int64_t>(bytes / (1 << 30))) + " GiB"; };
  if (needed > all)
    throw std::runtime_error("train.batch = " + std::to_string(config.train.batch) + " texts of " +
                             std::to_string(config.model.context) + " bytes take at least " + text(needed) +
                             " at once, of the " + text(all) +
                             " of this machine; take fewer, and train.accumulate batches a step");
}

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

/// What is trained, after `step` steps.
struct Training {
  Gpt model{nullptr};
  std::unique_ptr<Optimizer> optimizer;
  LossScale scale{"f32"};
  int64_t step = 0;
  bool fromCheckpoint = false;
};

/// From the checkpoint in the run's directory where there is one, else from the start. Says in `config` what precision
/// "auto" is: that of the run so far, whatever this machine would choose.
Training begin(const TrainOptions &options, Config &config) {
  const std::string path = checkpointIn(options.directory);
  const bool exists = std::filesystem::exists(path);
  torch::manual_seed(config.train.seed);
  Training training;
  auto prepare = [&] {
    config.train.precision = resolvePrecision(config.train.precision, options.device);
    training.model->recompute = config.train.recompute == "blocks";
    training.optimizer = std::make_unique<Optimizer>(training.model, config.train);
    training.scale = LossScale(config.train.precision);
  };
  if (!exists) {
    training.model = Gpt(config.model);
    if (!options.init.empty()) loadWeights(training.model, options.init);
    training.model->to(options.device);
    prepare();
    return training;
  }
  if (!options.resume) throw std::runtime_error(path + " exists; go on with --resume, or give a new --out");
  Checkpoint checkpoint = loadCheckpoint(options.directory, options.device);
  if (printConfig({checkpoint.config.model, {}}) != printConfig({config.model, {}}))
    throw std::runtime_error("the checkpoint in " + options.directory +
                             " is of another model; resume with its config, or give a new --out");
  if (config.train.precision == "auto") config.train.precision = checkpoint.config.train.precision;
  training.model = checkpoint.model;
  training.step = checkpoint.step;
  training.fromCheckpoint = true;
  prepare();
  noteChanges(checkpoint.config.train, config.train);
  loadOptimizer(checkpoint, *training.optimizer);
  if (checkpoint.lossScale.defined()) training.scale.restore(checkpoint.lossScale);
  return training;
}

void demandFinite(Training &training, const StepFigures &figures) {
  if (std::isfinite(figures.loss) && std::isfinite(figures.gradientNorm)) return;
  Gpt &model = training.model;
  std::string where = model->firstNonFinite(figures.tokens);
  if (where.empty())
    for (auto &parameter : model->named_parameters())
      if (where.empty() && parameter.value().grad().defined() &&
          !torch::isfinite(parameter.value().grad()).all().item<bool>())
        where = "the gradient of " + parameter.key();
  throw Diverged("step " + std::to_string(training.step) + ": the loss is " + std::to_string(figures.loss) +
                 "; the first value that is not finite is in " + (where.empty() ? "the loss itself" : where) +
                 ". The last checkpoint is untouched; a lower train.lr may help");
}

/// One step. None, and nothing changed, where a signal came before it was complete.
std::optional<StepFigures> takeStep(Training &training, const Config &config, const TextData &data) {
  const TrainConfig &settings = config.train;
  const int64_t context = config.model.context;
  Gpt &model = training.model;
  // The state of a step follows from the seed and its number alone, so a resumed run repeats it.
  torch::manual_seed(settings.seed * 1000003 + training.step);
  StepFigures figures;
  const double share = learningRateShare(settings, training.step);
  figures.learningRate = share * settings.lr;
  training.optimizer->zeroGradients();
  for (int64_t part = 0; part < settings.accumulate; ++part) {
    if (interrupted()) return std::nullopt;
    const auto [inputs, targets] =
        sampleBatch(data.train, settings.batch, context, settings.seed, training.step * settings.accumulate + part);
    figures.tokens = inputs.to(model->device());
    Tensor logits, reach;
    {
      const Autocast autocast(settings.precision, model->device());
      logits = model->forward(figures.tokens);
      reach = model->reachCost();
    }
    const Tensor entropy = torch::nn::functional::cross_entropy(logits.to(torch::kFloat).view({-1, 256}),
                                                                targets.to(model->device()).view({-1}));
    const Tensor total = (entropy + settings.spanReg * reach) / settings.accumulate;
    (total * training.scale.value()).backward();
    figures.loss += entropy.item<double>() / static_cast<double>(settings.accumulate);
  }
  figures.lossScale = training.scale.value();
  if (training.scale.isActive())
    for (const Tensor &parameter : model->parameters())
      if (parameter.grad().defined()) parameter.mutable_grad().div_(training.scale.value());
  figures.gradientNorm =
      torch::nn::utils::clip_grad_norm_(model->parameters(), settings.clip > 0 ? settings.clip : HUGE_VAL);
  // Gradients that a scale took out of f16's range leave the weights as they are.
  const bool mendable = std::isfinite(figures.loss) && training.scale.value() > LossScale::least;
  const bool taken = training.scale.update(std::isfinite(figures.gradientNorm));
  if (taken || !mendable) demandFinite(training, figures);
  if (taken) training.optimizer->step(share);
  ++training.step;
  return figures;
}

}  // namespace

int train(const TrainOptions &options, const TextData &data) {
  Config config = options.config;
  const TrainConfig &settings = config.train;
  if (data.train.size(0) <= config.model.context)
    throw std::runtime_error("expected more bytes to train on than model.context = " +
                             std::to_string(config.model.context) + ", got " + std::to_string(data.train.size(0)));
  if (options.device.is_cpu()) demandMemory(config);
  [[maybe_unused]] const VariantInputs known(config.model);  // says what is wrong before there is a folder
  const Validation validation(config, data);
  makeFolder(options.directory);
  const RunLock lock(options.directory);
  removeLeftovers(options.directory);
  Training training = begin(options, config);
  MetricsFile metrics(options.directory + "/metrics.jsonl", training.step);
  Progress progress(config, training.model, metrics.last());
  std::fprintf(stderr, "%s: %lld parameters, %s\npeak: %.1f %s GFLOP/s, %s\n", config.model.attention.c_str(),
               static_cast<long long>(training.model->parameterCount()), data.description.c_str(),
               1e-9 * progress.peak().rate, settings.precision.c_str(), progress.peak().of.c_str());
  if (options.beforeFirstStep) {
    const Tensor tokens =
        sampleBatch(data.train, settings.batch, config.model.context, settings.seed, 0).first.to(options.device);
    if (const int code = options.beforeFirstStep(training.model, tokens); code != 0) return code;
  }
  training.model->train();
  Keeper keeper(options.directory, settings, training.fromCheckpoint ? std::optional(training.step) : std::nullopt,
                [&](const std::string &path, std::optional<double> bpc) {
                  metrics.sync();
                  saveCheckpoint(path, config, training.step, training.model, *training.optimizer, training.scale, bpc);
                });
  EventFile events(options.directory, training.step);
  auto stop = [&] {
    keeper.save(training.step);
    std::fprintf(stderr, "\ninterrupted at step %lld; saved. Go on with --resume\n",
                 static_cast<long long>(training.step));
    return interruptCode();
  };
  if (training.step >= settings.steps)
    std::fprintf(stderr, "step %lld of %lld: nothing is left to do\n", static_cast<long long>(training.step),
                 static_cast<long long>(settings.steps));

  progress.start(training.step);
  for (bool first = true; training.step < settings.steps; first = false) {
    const std::optional<StepFigures> step = takeStep(training, config, data);
    if (!step) return stop();
    if (first) progress.firstDone();
    std::optional<double> validated;
    const bool validate = validation.due(training.step);
    if (validate || training.step % settings.logEvery == 0 || training.step == settings.steps) {
      ProgressFigures figures = progress.measure(training.step, step->tokens);
      if (validate) validated = figures.validation = validation.measure(training.model);
      try {
        metrics.append(metricsEntry(*step, figures));
        events.append(training.step, scalarsOf(*step, figures));
      } catch (const std::exception &) {
        // The steps are not lost with their figures.
        saveCheckpoint(checkpointIn(options.directory), config, training.step, training.model, *training.optimizer,
                       training.scale);
        throw;
      }
      progress.show(*step, figures);
      progress.start(training.step);
    }
    if (interrupted()) return stop();
    const Progress::Pause pause(progress);
    keeper.stepDone(training.step, validated);
  }
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\n");
  return 0;
}

}  // namespace weft
