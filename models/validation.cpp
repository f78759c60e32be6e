#include "models/validation.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "models/evaluate.h"

namespace weft {

Validation::Validation(const Config &config, const TextData &data)
    : every(config.train.validateEvery),
      bytes(config.train.validateBytes),
      steps(config.train.steps),
      stride(std::max<int64_t>(1, config.model.context / 2)),
      text(data.validation) {
  if (every == 0) return;
  const int64_t context = config.model.context;
  if (bytes < context)
    throw std::runtime_error("expected train.validate_bytes of at least model.context = " + std::to_string(context) +
                             ", got " + std::to_string(bytes));
  if (text.size(0) <= context)
    throw std::runtime_error("expected more bytes to validate on than model.context = " + std::to_string(context) +
                             ", got " + std::to_string(text.size(0)) + "; train.validate_every=0 does without");
}

bool Validation::due(int64_t step) const { return every > 0 && (step % every == 0 || step == steps); }

std::optional<double> Validation::measure(Gpt &model, const std::shared_ptr<Processes> &processes) const {
  const Evaluation result = evaluate(model, text, stride, bytes, false, processes);
  model->train();
  if (!result.complete) return std::nullopt;
  return result.bpc;
}

}  // namespace weft
