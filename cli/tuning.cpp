#include "cli/tuning.h"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include <torch/utils.h>

#include "autotune/samples.h"
#include "models/interrupt.h"
#include "ops/schedules.h"

namespace weft::cli {

using autotune::Outcome;
using autotune::Progress;

double parseSeconds(const std::string &text) {
  double value = -1;
  const char *end = text.data() + text.size();
  const std::string unit(std::from_chars(text.data(), end, value).ptr, end);
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (!(value > 0) || scale == 0) throw std::runtime_error("expected a time such as 60s or 5m, got '" + text + "'");
  return value * scale;
}

int tuneAll(const std::vector<TuningJob> &jobs, autotune::TuneOptions options, const std::string &target) {
  const bool terminal = isatty(STDERR_FILENO);
  const auto start = std::chrono::steady_clock::now();
  const double budget = options.budget;
  auto left = [&] { return budget - std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  options.stop = [] { return interrupted(); };
  std::vector<double> gains;  // of confirmed schedules: what few samples say is no gain yet
  size_t tuned = 0, measured = 0, unfinished = 0;
  for (size_t at = 0; at < jobs.size(); ++at) {
    const autotune::Problem problem = jobs[at].problem();
    std::string last;
    options.progress = [&](const Progress &p) {
      // Without a terminal: a line a stage, so that logs stay short.
      if (!terminal && p.stage == last) return;
      last = p.stage;
      const int filled = p.total ? static_cast<int>(20 * p.done / p.total) : 0;
      std::fprintf(stderr, "%s[%zu/%zu] %s %s  %-10s [%s%s] %zu/%zu  best %.3f ms (default %.3f)  %.0f s left%s",
                   terminal ? "\r\033[K" : "", at + 1, jobs.size(), problem.variant.substr(0, 24).c_str(),
                   problem.backward ? "backward" : "forward", p.stage.c_str(), std::string(filled, '#').c_str(),
                   std::string(20 - filled, '.').c_str(), p.done, p.total, 1e3 * p.bestSeconds, 1e3 * p.defaultSeconds,
                   p.secondsLeft, terminal ? "" : "\n");
    };
    // An equal part of what is left; half a second measures at least the default.
    options.budget = std::max(0.5, left() / static_cast<double>(jobs.size() - at));
    const Outcome outcome = autotune::tune(problem, options);
    if (terminal) std::fprintf(stderr, "\r\033[K");
    measured += outcome.measured;
    const TuningEntry &entry = outcome.entry;
    const char *end = outcome.end == Outcome::End::Known      ? "known"
                      : outcome.end == Outcome::End::Complete ? "complete"
                      : outcome.end == Outcome::End::Stopped  ? "stopped; kept"
                                                              : "budget spent, not confirmed; run again to go on";
    if (entry.seconds > 0) {
      const double gain = entry.defaultSeconds / entry.seconds;
      std::printf("%-64s %-32s %9.3f ms %s%5.2fx default  %s\n", describe(entry.key).c_str(),
                  describe(entry.schedule, target).c_str(), 1e3 * entry.seconds, entry.complete ? " " : "~", gain, end);
      ++tuned;
      if (entry.complete) gains.push_back(gain);
    }
    std::fflush(stdout);
    unfinished += outcome.end == Outcome::End::BudgetSpent;
    if (outcome.end == Outcome::End::Stopped) {
      std::fprintf(stderr, "interrupted; all that was measured is kept. The same command goes on\n");
      return interruptCode();
    }
  }
  std::printf("%zu tuned, ", tuned);
  if (gains.empty()) std::printf("none confirmed");
  else std::printf("median gain %.2fx", autotune::median(gains));
  std::printf(", %zu measurements%s\n", measured, unfinished ? "; some searches ran out of budget (--budget)" : "");
  ops::forgetSchedules();
  return 0;
}

int tuneModel(Gpt &model, const torch::Tensor &tokens, double budget) {
  torch::NoGradGuard guard;
  const AttentionInputs call = model->attentionInputs(tokens).at(0);
  const std::string shape = std::to_string(tokens.size(0)) + "," + std::to_string(model->config.heads) + "," +
                            std::to_string(tokens.size(1)) + "," +
                            std::to_string(model->config.width / model->config.heads);
  std::vector<TuningJob> jobs;
  for (bool backward : {false, true})
    jobs.push_back({model->config.attention, backward, shape, [&, backward] {
                      return autotune::Problem{model->config.attention, call.names, call.tensors, backward, shape};
                    }});
  autotune::TuneOptions options;
  options.budget = budget;
  const Device device = tokens.is_cuda() ? Device{Device::Kind::Cuda, tokens.device().index()} : Device{};
  return tuneAll(jobs, options, targetOf(device));
}

}  // namespace weft::cli
