#include "models/trainer.h"

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <stdexcept>

#include "models/checkpoint.h"
#include "models/journal.h"
#include "models/run_lock.h"
#include "models/training.h"
#include "models/user_files.h"
#include "models/validation.h"
#include "ops/variant_library.h"

namespace weft {
namespace {

/// A step's memory is taken piece by piece, and a system that runs out ends the process without a word.
void demandMemory(const Config &config, const Processes &processes) {
  // What the backward pass of a token keeps at least: of a block two norms, q, k, v, o, the sum, and the network's
  // inner layer twice; the logits and their gradient. Blocks that are computed again keep what they are given.
  const ModelConfig &model = config.model;
  const double width = static_cast<double>(model.width), layers = static_cast<double>(model.layers);
  const double block = 7 * width + 2 * static_cast<double>(model.innerWidth());
  const double blocks = config.train.recompute == "blocks" ? layers * width + block : layers * block;
  const double floats = blocks + 2 * 256, bytes = config.train.precision == "f32" ? 4 : 2;
  const double texts =
      static_cast<double>(config.train.batch * processes.here()) / static_cast<double>(processes.size());
  const double needed = bytes * floats * texts * static_cast<double>(config.model.context);
  const double all = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  auto text = [](double bytes) { return std::to_string(static_cast<int64_t>(bytes / (1 << 30))) + " GiB"; };
  if (needed > all)
    throw std::runtime_error("train.batch = " + std::to_string(config.train.batch) + " texts of " +
                             std::to_string(config.model.context) + " bytes take at least " + text(needed) +
                             " at once, of the " + text(all) +
                             " of this machine; take fewer, and train.accumulate batches a step");
}

/// Of processes that share each text.
void demandParts(const Config &config) {
  const int64_t sharing = config.train.contextParallel;
  if (sharing == 1) return;
  if (readsAllTokens(*findVariant(config.model.attention)))
    throw std::runtime_error("the inputs of '" + config.model.attention +
                             "' are made of all tokens at once; with train.context_parallel = " +
                             std::to_string(sharing) + " no process has them");
  if (config.model.context % (2 * sharing) != 0)
    throw std::runtime_error("model.context = " + std::to_string(config.model.context) + ": expected a multiple of " +
                             std::to_string(2 * sharing) + ", two pieces for each of " + std::to_string(sharing) +
                             " processes (train.context_parallel)");
  const int64_t piece = config.model.context / (2 * sharing);
  for (const SelectionInfo::Round &round : findVariant(config.model.attention)->selection().rounds)
    if (piece % round.tileQ != 0 || piece % round.tileK != 0)
      throw std::runtime_error("'" + config.model.attention + "' chooses tiles of " + std::to_string(round.tileQ) +
                               " x " + std::to_string(round.tileK) + ": expected pieces of whole tiles, got " +
                               std::to_string(piece) +
                               " tokens, a part of model.context = " + std::to_string(config.model.context) + " for " +
                               std::to_string(2 * sharing) + " pieces");
}

}  // namespace

int train(const TrainOptions &options, const TextData &data) {
  Config config = options.config;
  const TrainConfig &settings = config.train;
  if (data.train.size(0) <= config.model.context)
    throw std::runtime_error("expected more bytes to train on than model.context = " +
                             std::to_string(config.model.context) + ", got " + std::to_string(data.train.size(0)));
  Processes &processes = *options.processes;
  const Rows rows = processes.part(settings.batch, settings.contextParallel);
  if (options.device.is_cpu()) demandMemory(config, processes);
  for (int64_t layer = 0; layer < config.model.layers; ++layer) [[maybe_unused]]
    const VariantInputs known(config.model, layer);  // says what is wrong before there is a folder
  demandParts(config);
  const Validation validation(config, data);
  processes.demandSame("config", printConfig(config));
  processes.demandSame("attention", lastingText(config.model.attention));
  processes.demandSameText(data.train);
  std::optional<RunLock> lock;
  if (processes.first()) {
    makeFolder(options.directory);
    lock.emplace(options.directory);
    removeLeftovers(options.directory);
  }
  Training training = begin(options, config);
  std::optional<Journal> journal;  // of the first process
  if (processes.first()) journal.emplace(options.directory, config, training, data, processes);
  Batches batches(data.train, rows, config.model.context, settings.seed, options.device);
  if (options.beforeFirstStep) {
    int code = 0;
    // Of processes that share texts each computes pieces of them.
    const int64_t parts = settings.contextParallel > 1 ? 2 * settings.contextParallel : 1;
    if (processes.firstHere())
      code = options.beforeFirstStep(training.model, batches.take(0).first.slice(1, 0, config.model.context / parts));
    if (code = processes.wait(code); code != 0) return code;
  }
  training.model->train();
  auto stop = [&] {
    if (journal) {
      journal->save();
      std::fprintf(stderr, "\ninterrupted at step %lld; saved. Go on with --resume\n",
                   static_cast<long long>(training.step));
    }
    // Where one ends, torchrun ends the others.
    return processes.wait(processes.interruptCode());
  };
  if (training.step >= settings.steps && journal)
    std::fprintf(stderr, "step %lld of %lld: nothing is left to do\n", static_cast<long long>(training.step),
                 static_cast<long long>(settings.steps));

  // A signal cut short the validation of the newest step.
  if (training.fromCheckpoint && validation.due(training.step) && !training.bpc) {
    const std::optional<double> validated = validation.measure(training.model, options.processes);
    if (validated && journal) journal->logValidation(*validated);
  }
  if (journal) journal->start();
  for (bool first = true; training.step < settings.steps; first = false) {
    try {
      const std::optional<StepFigures> step = takeStep(training, config, processes, batches);
      if (!step) return stop();
      if (journal && first) journal->firstStepDone();
      const bool validate = validation.due(training.step);
      std::optional<ProgressFigures> figures;
      if (journal && (validate || training.step % settings.logEvery == 0 || training.step == settings.steps))
        figures = journal->measure(*step);
      std::optional<double> validated;
      if (validate) validated = validation.measure(training.model, options.processes);
      if (figures) {
        figures->validation = validated;
        journal->log(*step, *figures);
      }
      if (journal) journal->stepDone(validated);
      if (processes.interrupted()) return stop();
    } catch (const LostProcess &) {
      // Where others are asked for something, the model is as a whole number of steps left it.
      if (journal) {
        journal->save();
        std::fprintf(stderr, "\nstep %lld is saved; go on with --resume\n", static_cast<long long>(training.step));
      }
      throw;
    }
  }
  if (journal) journal->save();
  if (journal && isatty(STDERR_FILENO)) std::fprintf(stderr, "\n");
  processes.wait();
  return 0;
}

}  // namespace weft
