#include "models/trainer.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include "benchmarks/peak.h"
#include "models/checkpoint.h"
#include "models/gpt.h"
#include "models/interrupt.h"
#include "models/metrics.h"
#include "models/run_lock.h"
#include "models/settings.h"
#include "models/statistics.h"
#include "models/user_files.h"

namespace weft {
namespace {

using torch::Tensor;
using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

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

}  // namespace

int train(const TrainOptions &options, const TextData &data) {
  Config config = options.config;
  const TrainConfig &settings = config.train;
  if (data.train.size(0) <= config.model.context)
    throw std::runtime_error("expected more bytes to train on than model.context = " +
                             std::to_string(config.model.context) + ", got " + std::to_string(data.train.size(0)));
  if (options.device.is_cpu()) demandMemory(config);
  makeFolder(options.directory);
  const RunLock lock(options.directory);
  removeLeftovers(options.directory);
  const std::string checkpointPath = options.directory + "/checkpoint.pt",
                    metricsPath = options.directory + "/metrics.jsonl";
  torch::manual_seed(settings.seed);
  Gpt model{nullptr};
  int64_t step = 0;
  const bool resuming = options.resume && std::filesystem::exists(checkpointPath);
  Checkpoint checkpoint;
  if (resuming) {
    checkpoint = loadCheckpoint(options.directory, options.device);
    if (printConfig({checkpoint.config.model, {}}) != printConfig({config.model, {}}))
      throw std::runtime_error("the checkpoint in " + options.directory +
                               " is of another model; resume with its config, or give a new --out");
    noteChanges(checkpoint.config.train, settings);
    model = checkpoint.model;
    step = checkpoint.step;
  } else {
    if (!options.resume && std::filesystem::exists(checkpointPath))
      throw std::runtime_error(checkpointPath + " exists; go on with --resume, or give a new --out");
    model = Gpt(config.model);
    model->to(options.device);
  }
  auto optimizer = makeOptimizer(model, settings);
  if (resuming) loadOptimizer(checkpoint, *optimizer);
  checkpoint.optimizer = {};  // a second copy of the state
  MetricsFile metrics(metricsPath, step);
  double secondsSpent = metrics.last().value("seconds", 0.0), flopsSpent = metrics.last().value("flops", 0.0);

  const bool terminal = isatty(STDERR_FILENO);
  const Device device = model->device().is_cuda() ? Device{Device::Kind::Cuda, model->device().index()} : Device{};
  Roof peak = bench::peakOf(device, ElementType::F32).value_or(Roof{});
  std::fprintf(stderr, "%s: %lld parameters, %s\npeak: %.1f f32 GFLOP/s, %s\n", config.model.attention.c_str(),
               static_cast<long long>(model->parameterCount()), data.description.c_str(), 1e-9 * peak.rate,
               peak.of.c_str());
  if (options.beforeFirstStep) {
    const Tensor tokens =
        sampleBatch(data.train, settings.batch, config.model.context, settings.seed, 0).first.to(options.device);
    if (const int code = options.beforeFirstStep(model, tokens); code != 0) return code;
  }
  model->train();
  auto lastTime = Clock::now();
  int64_t lastStep = step;
  int64_t savedStep = -1;
  auto save = [&] {
    if (savedStep == step) return;
    metrics.sync();
    saveCheckpoint(options.directory, config, step, model, *optimizer);
    savedStep = step;
  };
  auto stop = [&] {
    save();
    std::fprintf(stderr, "\ninterrupted at step %lld; saved. Go on with --resume\n", static_cast<long long>(step));
    return interruptCode();
  };
  if (step >= settings.steps)
    std::fprintf(stderr, "step %lld of %lld: nothing is left to do\n", static_cast<long long>(step),
                 static_cast<long long>(settings.steps));

  while (step < settings.steps) {
    // The state of a step follows from the seed and its number alone, so a resumed run repeats it.
    torch::manual_seed(settings.seed * 1000003 + step);
    const double rate = learningRate(settings, step);
    for (auto &group : optimizer->param_groups()) static_cast<torch::optim::AdamWOptions &>(group.options()).lr(rate);
    optimizer->zero_grad();
    double loss = 0;
    Tensor tokens;
    for (int64_t part = 0; part < settings.accumulate; ++part) {
      // A step that is not complete has changed nothing yet.
      if (interrupted()) return stop();
      const auto [inputs, targets] = sampleBatch(data.train, settings.batch, config.model.context, settings.seed,
                                                 step * settings.accumulate + part);
      tokens = inputs.to(options.device);
      const Tensor logits = model->forward(tokens);
      const Tensor entropy =
          torch::nn::functional::cross_entropy(logits.view({-1, 256}), targets.to(options.device).view({-1}));
      const Tensor total = (entropy + settings.spanReg * model->spanCost()) / settings.accumulate;
      total.backward();
      loss += entropy.item<double>() / static_cast<double>(settings.accumulate);
    }
    const double norm =
        torch::nn::utils::clip_grad_norm_(model->parameters(), settings.clip > 0 ? settings.clip : HUGE_VAL);
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      std::string where = model->firstNonFinite(tokens);
      if (where.empty())
        for (auto &parameter : model->named_parameters())
          if (where.empty() && parameter.value().grad().defined() &&
              !torch::isfinite(parameter.value().grad()).all().item<bool>())
            where = "the gradient of " + parameter.key();
      throw std::runtime_error("step " + std::to_string(step) + ": the loss is " + std::to_string(loss) +
                               "; the first value that is not finite is in " +
                               (where.empty() ? "the loss itself" : where) +
                               ". The last checkpoint is untouched; a lower train.lr may help");
    }
    optimizer->step();
    ++step;

    if (step % settings.logEvery == 0 || step == settings.steps) {
      const double seconds = secondsSince(lastTime);
      const double tokensPerSecond =
          static_cast<double>((step - lastStep) * settings.batch * settings.accumulate * config.model.context) /
          seconds;
      model->eval();
      const auto heads = headStatistics(model, tokens.slice(0, 0, 1));
      model->train();
      const double kept = meanKept(heads), span = meanOf(heads, "span", static_cast<double>(config.model.context));
      secondsSpent += seconds;
      flopsSpent += tokensPerSecond * seconds * model->flopsPerToken(kept);
      // One list a layer for each learned name, and for the kept tiles.
      std::map<std::string, std::vector<std::vector<double>>> perHead;
      for (const HeadStatistics &head : heads) {
        auto put = [&](const std::string &name, double value) {
          perHead[name].resize(static_cast<size_t>(head.layer) + 1);
          perHead[name].back().push_back(value);
        };
        for (const auto &[name, value] : head.learned) put(name, value);
        put("kept_tiles", head.keptTiles);
      }
      const double achieved = tokensPerSecond * model->flopsPerToken(kept);
      if (achieved > peak.rate) peak = bench::raisedPeak(device, ElementType::F32, achieved);
      const double utilisation = achieved / peak.rate;
      const nlohmann::json entry({{"step", step},
                                  {"loss", loss},
                                  {"bpc", loss / M_LN2},
                                  {"lr", rate},
                                  {"grad_norm", norm},
                                  {"tokens_per_second", tokensPerSecond},
                                  {"mfu", utilisation},
                                  {"peak_gflops", 1e-9 * peak.rate},
                                  {"mean_span", span},
                                  {"kept_tiles", kept},
                                  {"seconds", secondsSpent},
                                  {"flops", flopsSpent},
                                  {"heads", perHead}});
      try {
        metrics.append(entry);
      } catch (const std::exception &) {
        // The steps are not lost with their figures.
        saveCheckpoint(options.directory, config, step, model, *optimizer);
        throw;
      }
      const int filled = static_cast<int>(24 * step / settings.steps);
      std::fprintf(stderr, "%s[%s%s] %lld/%lld  loss %.4f  bpc %.3f  %.0f tok/s  MFU %.0f%%  span %.0f  kept %.0f%%%s",
                   terminal ? "\r" : "", std::string(filled, '#').c_str(), std::string(24 - filled, '.').c_str(),
                   static_cast<long long>(step), static_cast<long long>(settings.steps), loss, loss / M_LN2,
                   tokensPerSecond, 100 * utilisation, span, 100 * kept, terminal ? "  " : "\n");
      lastTime = Clock::now();
      lastStep = step;
    }
    if (interrupted()) return stop();
    if (step % settings.saveEvery == 0) save();
  }
  save();
  if (terminal) std::fprintf(stderr, "\n");
  return 0;
}

}  // namespace weft
