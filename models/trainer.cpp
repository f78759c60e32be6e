#include "models/trainer.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "models/checkpoint.h"
#include "models/gpt.h"
#include "models/interrupt.h"
#include "models/metrics.h"
#include "models/progress.h"
#include "models/run_lock.h"
#include "models/settings.h"
#include "models/user_files.h"

namespace weft {
namespace {

using torch::Tensor;

/// Weight decay on matrices only: not on biases, norms, spans or the embeddings' positions.
std::unique_ptr<torch::optim::AdamW> makeOptimizer(Gpt &model, const TrainConfig &config) {
  std::vector<Tensor> matrices, others;
  for (auto &parameter : model->named_parameters()) {
    const bool matrix = parameter.value().dim() >= 2 && parameter.key().find(".weight") != std::string::npos;
    (matrix ? matrices : others).push_back(parameter.value());
  }
  auto options = [&](double decay) {
    return std::make_unique<torch::optim::AdamWOptions>(
        torch::optim::AdamWOptions(config.lr).betas({config.beta1, config.beta2}).weight_decay(decay));
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, options(config.weightDecay));
  groups.emplace_back(others, options(0));
  return std::make_unique<torch::optim::AdamW>(groups, torch::optim::AdamWOptions(config.lr));
}

double learningRate(const TrainConfig &config, int64_t step) {
  if (step < config.warmup) return config.lr * static_cast<double>(step + 1) / static_cast<double>(config.warmup);
  const double span = std::max<double>(1, static_cast<double>(config.steps - config.warmup));
  const double share = std::min(1.0, static_cast<double>(step - config.warmup) / span);
  return config.lrMin + (config.lr - config.lrMin) * 0.5 * (1 + std::cos(M_PI * share));
}

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
  std::unique_ptr<torch::optim::AdamW> optimizer;
  int64_t step = 0;
};

/// From the checkpoint in the run's directory where there is one, else from the start.
Training begin(const TrainOptions &options) {
  const Config &config = options.config;
  const std::string path = options.directory + "/checkpoint.pt";
  const bool exists = std::filesystem::exists(path);
  torch::manual_seed(config.train.seed);
  Training training;
  if (!exists) {
    training.model = Gpt(config.model);
    training.model->to(options.device);
    training.optimizer = makeOptimizer(training.model, config.train);
    return training;
  }
  if (!options.resume) throw std::runtime_error(path + " exists; go on with --resume, or give a new --out");
  Checkpoint checkpoint = loadCheckpoint(options.directory, options.device);
  if (printConfig({checkpoint.config.model, {}}) != printConfig({config.model, {}}))
    throw std::runtime_error("the checkpoint in " + options.directory +
                             " is of another model; resume with its config, or give a new --out");
  noteChanges(checkpoint.config.train, config.train);
  training.model = checkpoint.model;
  training.step = checkpoint.step;
  training.optimizer = makeOptimizer(training.model, config.train);
  loadOptimizer(checkpoint, *training.optimizer);
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
  throw std::runtime_error("step " + std::to_string(training.step) + ": the loss is " + std::to_string(figures.loss) +
                           "; the first value that is not finite is in " + (where.empty() ? "the loss itself" : where) +
                           ". The last checkpoint is untouched; a lower train.lr may help");
}

/// One step. None, and nothing changed, where a signal came before it was complete.
std::optional<StepFigures> takeStep(Training &training, const TrainOptions &options, const TextData &data) {
  const TrainConfig &settings = options.config.train;
  const int64_t context = options.config.model.context;
  Gpt &model = training.model;
  // The state of a step follows from the seed and its number alone, so a resumed run repeats it.
  torch::manual_seed(settings.seed * 1000003 + training.step);
  StepFigures figures;
  figures.learningRate = learningRate(settings, training.step);
  for (auto &group : training.optimizer->param_groups())
    static_cast<torch::optim::AdamWOptions &>(group.options()).lr(figures.learningRate);
  training.optimizer->zero_grad();
  for (int64_t part = 0; part < settings.accumulate; ++part) {
    if (interrupted()) return std::nullopt;
    const auto [inputs, targets] =
        sampleBatch(data.train, settings.batch, context, settings.seed, training.step * settings.accumulate + part);
    figures.tokens = inputs.to(options.device);
    const Tensor logits = model->forward(figures.tokens);
    const Tensor entropy =
        torch::nn::functional::cross_entropy(logits.view({-1, 256}), targets.to(options.device).view({-1}));
    const Tensor total = (entropy + settings.spanReg * model->reachCost()) / settings.accumulate;
    total.backward();
    figures.loss += entropy.item<double>() / static_cast<double>(settings.accumulate);
  }
  figures.gradientNorm =
      torch::nn::utils::clip_grad_norm_(model->parameters(), settings.clip > 0 ? settings.clip : HUGE_VAL);
  demandFinite(training, figures);
  training.optimizer->step();
  ++training.step;
  return figures;
}

}  // namespace

int train(const TrainOptions &options, const TextData &data) {
  const Config &config = options.config;
  const TrainConfig &settings = config.train;
  if (data.train.size(0) <= config.model.context)
    throw std::runtime_error("expected more bytes to train on than model.context = " +
                             std::to_string(config.model.context) + ", got " + std::to_string(data.train.size(0)));
  if (options.device.is_cpu()) demandMemory(config);
  [[maybe_unused]] const VariantInputs known(config.model);  // says what is wrong before there is a folder
  makeFolder(options.directory);
  const RunLock lock(options.directory);
  removeLeftovers(options.directory);
  Training training = begin(options);
  MetricsFile metrics(options.directory + "/metrics.jsonl", training.step);
  Progress progress(config, training.model, metrics.last());
  std::fprintf(stderr, "%s: %lld parameters, %s\npeak: %.1f f32 GFLOP/s, %s\n", config.model.attention.c_str(),
               static_cast<long long>(training.model->parameterCount()), data.description.c_str(),
               1e-9 * progress.peak().rate, progress.peak().of.c_str());
  if (options.beforeFirstStep) {
    const Tensor tokens =
        sampleBatch(data.train, settings.batch, config.model.context, settings.seed, 0).first.to(options.device);
    if (const int code = options.beforeFirstStep(training.model, tokens); code != 0) return code;
  }
  training.model->train();
  int64_t savedStep = -1;
  auto save = [&] {
    if (savedStep == training.step) return;
    metrics.sync();
    saveCheckpoint(options.directory, config, training.step, training.model, *training.optimizer);
    savedStep = training.step;
  };
  auto stop = [&] {
    save();
    std::fprintf(stderr, "\ninterrupted at step %lld; saved. Go on with --resume\n",
                 static_cast<long long>(training.step));
    return interruptCode();
  };
  if (training.step >= settings.steps)
    std::fprintf(stderr, "step %lld of %lld: nothing is left to do\n", static_cast<long long>(training.step),
                 static_cast<long long>(settings.steps));

  progress.start(training.step);
  while (training.step < settings.steps) {
    const std::optional<StepFigures> step = takeStep(training, options, data);
    if (!step) return stop();
    if (training.step % settings.logEvery == 0 || training.step == settings.steps) {
      const ProgressFigures figures = progress.measure(training.step, step->tokens);
      try {
        metrics.append(metricsEntry(*step, figures));
      } catch (const std::exception &) {
        // The steps are not lost with their figures.
        saveCheckpoint(options.directory, config, training.step, training.model, *training.optimizer);
        throw;
      }
      printProgress(*step, figures, settings.steps);
      progress.start(training.step);
    }
    if (interrupted()) return stop();
    if (training.step % settings.saveEvery == 0) save();
  }
  save();
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\n");
  return 0;
}

}  // namespace weft
