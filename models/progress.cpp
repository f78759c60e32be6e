#include "models/progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "benchmarks/peak.h"
#include "models/statistics.h"

namespace weft {

using Clock = std::chrono::steady_clock;

Progress::Progress(const Config &config, Gpt &model, const nlohmann::json &last)
    : config(config),
      model(model),
      device(model->device().is_cuda() ? Device{Device::Kind::Cuda, model->device().index()} : Device{}),
      type(config.train.precision == "f32" ? ElementType::F32 : ElementType::BF16),
      roof(bench::peakOf(device, type).value_or(Roof{})),
      secondsSpent(last.value("seconds", 0.0)),
      flopsSpent(last.value("flops", 0.0)) {}

void Progress::start(int64_t step) {
  lastTime = Clock::now();
  lastStep = step;
}

ProgressFigures Progress::measure(int64_t step, const torch::Tensor &tokens) {
  ProgressFigures figures;
  figures.step = step;
  const double seconds = std::chrono::duration<double>(Clock::now() - lastTime).count();
  figures.tokensPerSecond =
      static_cast<double>((step - lastStep) * config.train.batch * config.train.accumulate * config.model.context) /
      seconds;
  model->eval();
  const auto heads = headStatistics(model, tokens.slice(0, 0, 1));
  model->train();
  figures.kept = meanKept(heads);
  figures.span = meanOf(heads, "span", static_cast<double>(config.model.context));
  const double achieved = figures.tokensPerSecond * model->flopsPerToken(figures.kept);
  figures.seconds = secondsSpent += seconds;
  figures.flops = flopsSpent += figures.tokensPerSecond * seconds * model->flopsPerToken(figures.kept);
  for (const HeadStatistics &head : heads) {
    auto put = [&](const std::string &name, double value) {
      figures.perHead[name].resize(static_cast<size_t>(head.layer) + 1);
      figures.perHead[name].back().push_back(value);
    };
    for (const auto &[name, value] : head.learned) put(name, value);
    put("kept_tiles", head.keptTiles);
  }
  if (achieved > roof.rate) roof = bench::raisedPeak(device, type, achieved);
  figures.peakRate = roof.rate;
  figures.utilisation = achieved / roof.rate;
  return figures;
}

nlohmann::json metricsEntry(const StepFigures &step, const ProgressFigures &progress) {
  nlohmann::json entry({{"step", progress.step},
                        {"loss", step.loss},
                        {"bpc", step.loss / M_LN2},
                        {"lr", step.learningRate},
                        {"grad_norm", step.gradientNorm},
                        {"tokens_per_second", progress.tokensPerSecond},
                        {"mfu", progress.utilisation},
                        {"peak_gflops", 1e-9 * progress.peakRate},
                        {"mean_span", progress.span},
                        {"kept_tiles", progress.kept},
                        {"seconds", progress.seconds},
                        {"flops", progress.flops},
                        {"heads", progress.perHead}});
  if (step.lossScale != 1) entry["loss_scale"] = step.lossScale;
  return entry;
}

void printProgress(const StepFigures &step, const ProgressFigures &progress, int64_t steps) {
  const bool terminal = isatty(STDERR_FILENO);
  const int filled = static_cast<int>(24 * progress.step / steps);
  std::fprintf(stderr, "%s[%s%s] %lld/%lld  loss %.4f  bpc %.3f  %.0f tok/s  MFU %.0f%%  span %.0f  kept %.0f%%%s",
               terminal ? "\r" : "", std::string(filled, '#').c_str(), std::string(24 - filled, '.').c_str(),
               static_cast<long long>(progress.step), static_cast<long long>(steps), step.loss, step.loss / M_LN2,
               progress.tokensPerSecond, 100 * progress.utilisation, progress.span, 100 * progress.kept,
               terminal ? "  " : "\n");
}

}  // namespace weft
