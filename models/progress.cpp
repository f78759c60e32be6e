#include "models/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "benchmarks/peak.h"
#include "models/statistics.h"

namespace weft {

using Clock = std::chrono::steady_clock;

Progress::Progress(const Config &config, Gpt &model, const nlohmann::json &last, int64_t processes)
    : config(config),
      model(model),
      processes(static_cast<double>(processes)),
      device(model->device().is_cuda() ? Device{Device::Kind::Cuda, model->device().index()} : Device{}),
      type(config.train.precision == "f32" ? ElementType::F32 : ElementType::BF16),
      roof(bench::peakOf(device, type).value_or(Roof{})),
      secondsSpent(last.value("seconds", 0.0)),
      flopsSpent(last.value("flops", 0.0)) {}

void Progress::start(int64_t step) {
  lastTime = Clock::now();
  lastStep = step;
}

void Progress::firstDone() { slowSeconds = std::chrono::duration<double>(Clock::now() - lastTime).count(); }

ProgressFigures Progress::measure(int64_t step, const torch::Tensor &tokens) {
  ProgressFigures figures;
  figures.step = step;
  const double seconds = std::chrono::duration<double>(Clock::now() - lastTime).count();
  const int64_t stepTokens = config.train.batch * config.train.accumulate * config.model.context,
                steps = step - lastStep;
  const bool others = slowSeconds > 0 && steps > 1;
  const int64_t timedSteps = steps - (others ? 1 : 0);
  const double timed = seconds - (others ? slowSeconds : 0);
  figures.tokensPerSecond = static_cast<double>(timedSteps * stepTokens) / timed;
  if (recent.size() == 8 || firstAlone) recent.pop_front();
  firstAlone = slowSeconds > 0 && !others;
  slowSeconds = 0;
  recent.emplace_back(timedSteps, timed);
  model->eval();
  const auto heads = headStatistics(model, tokens.slice(0, 0, 1));
  model->train();
  figures.kept = meanKept(heads);
  figures.span = meanOf(heads, "span", static_cast<double>(config.model.context));
  const double achieved = figures.tokensPerSecond * model->flopsPerToken(figures.kept);
  figures.seconds = secondsSpent += seconds;
  figures.flops = flopsSpent += static_cast<double>(steps * stepTokens) * model->flopsPerToken(figures.kept);
  for (const HeadStatistics &head : heads) {
    auto put = [&](const std::string &name, double value) {
      figures.perHead[name].resize(static_cast<size_t>(head.layer) + 1);
      figures.perHead[name].back().push_back(value);
    };
    for (const auto &[name, value] : head.learned) put(name, value);
    put("kept_tiles", head.keptTiles);
  }
  if (achieved / processes > roof.rate) roof = bench::raisedPeak(device, type, achieved / processes);
  figures.peakRate = roof.rate * processes;
  figures.utilisation = achieved / figures.peakRate;
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
  if (progress.validation) entry["val_bpc"] = *progress.validation;
  return entry;
}

std::vector<std::pair<std::string, double>> scalarsOf(const StepFigures &step, const ProgressFigures &progress) {
  const nlohmann::json entry = metricsEntry(step, progress);
  std::vector<std::pair<std::string, double>> scalars;
  for (const char *name :
       {"loss", "bpc", "val_bpc", "lr", "grad_norm", "tokens_per_second", "mfu", "kept_tiles", "mean_span"})
    if (entry.contains(name)) scalars.emplace_back(name, entry[name].get<double>());
  return scalars;
}

/// "4s", "3m20s", "2h05m".
static std::string durationText(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[64];
  if (whole < 60) std::snprintf(text, sizeof text, "%llds", whole);
  else if (whole < 3600) std::snprintf(text, sizeof text, "%lldm%02llds", whole / 60, whole % 60);
  else std::snprintf(text, sizeof text, "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  return text;
}

/// The columns of the terminal, or enough where it does not say.
static size_t columns() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 1000;
}

void Progress::show(const StepFigures &step, const ProgressFigures &figures) {
  const bool terminal = isatty(STDERR_FILENO);
  const int64_t steps = config.train.steps, left = steps - figures.step;
  if (figures.validation) validation = figures.validation;
  int64_t recentSteps = 0;
  double recentSeconds = 0;
  for (const auto &[count, seconds] : recent) recentSteps += count, recentSeconds += seconds;
  const double stepsPerSecond = static_cast<double>(recentSteps) / recentSeconds;
  const double tokens =
      static_cast<double>(config.train.batch * config.train.accumulate * config.model.context) * stepsPerSecond;
  char text[512];
  const int filled = static_cast<int>(24 * figures.step / steps);
  std::snprintf(text, sizeof text, "[%s%s] %lld/%lld  loss %.4f  bpc %.3f", std::string(filled, '#').c_str(),
                std::string(24 - filled, '.').c_str(), static_cast<long long>(figures.step),
                static_cast<long long>(steps), step.loss, step.loss / M_LN2);
  std::string line = text;
  // A log says it once; a terminal keeps the newest in sight.
  if (const std::optional<double> shown = terminal ? validation : figures.validation) {
    std::snprintf(text, sizeof text, "  val %.3f", *shown);
    line += text;
  }
  std::snprintf(text, sizeof text, "  %.0f tok/s  MFU %.0f%%  span %.0f  kept %.0f%%", tokens,
                100 * figures.utilisation, figures.span, 100 * figures.kept);
  line += text;
  if (left > 0) line += "  left " + durationText(static_cast<double>(left) / stepsPerSecond);
  if (terminal) line.resize(std::min(line.size(), columns() - 1));
  std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", line.c_str());
}

}  // namespace weft
