// What is trained, where it comes from, and one step of it. Every process of a run calls these.
#pragma once

#include <memory>
#include <optional>

#include "models/batches.h"
#include "models/optimizer.h"
#include "models/precision.h"
#include "models/progress.h"
#include "models/trainer.h"

namespace weft {

struct Training {
  Gpt model{nullptr};
  std::unique_ptr<Optimizer> optimizer;
  LossScale scale{"f32"};
  int64_t step = 0;  ///< steps that were taken
  bool fromCheckpoint = false;
  std::optional<double> bpc;  ///< of its validation, where the checkpoint had one of the bytes that are validated now
};

/// From the checkpoint in the run's directory where there is one, else from the start. All processes have the first
/// one's: the others may be on machines without that directory. Says in `config` what precision "auto" is: that of the
/// run so far, whatever this machine would choose.
Training begin(const TrainOptions &options, Config &config);

/// One step. None, and nothing changed, where a signal came before it was complete. Throws Diverged, and LostProcess
/// before anything of the step has changed the model.
std::optional<StepFigures> takeStep(Training &training, const Config &config, Processes &processes, Batches &batches);

}  // namespace weft
