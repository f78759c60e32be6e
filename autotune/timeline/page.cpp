#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "autotune/timeline.h"

namespace weft::timeline {
namespace {

__attribute__((format(printf, 2, 3))) void add(std::string &text, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

std::string bar(double share) {
  constexpr int width = 30;
  const int filled = static_cast<int>(std::lround(width * std::clamp(share, 0.0, 1.0)));
  return std::string(filled, '#') + std::string(width - filled, '.');
}

void share(std::string &text, const std::string &name, double loop, double kernel) {
  add(text, "  %-28s %s %4.0f %% %7.0f %%\n", name.c_str(), bar(loop).c_str(), 100 * loop, 100 * kernel);
}

}  // namespace

std::string page(const Timeline &timeline) {
  std::string text;
  add(text, "%s on %s, predicted from its %s\n", timeline.kernel.c_str(), timeline.product.c_str(),
      timeline.sass ? "machine code (SASS)" : "PTX");
  add(text, "  predicted time   %.1f us", 1e6 * timeline.seconds);
  if (timeline.teraflops > 0) add(text, ", %.0f TFLOP/s of the products it executes", timeline.teraflops);
  add(text, "\n  predicted bound  %s\n\n", timeline.bound.c_str());
  const bool loop = timeline.fullCycles > 0;
  add(text, "  %-28s %-30s %6s %9s\n", "busy, predicted", "", loop ? "loop" : "", "kernel");
  share(text, "issue slots", timeline.issue, timeline.issueKernel);
  for (const PipeShare &pipe : timeline.pipes)
    if (std::max(pipe.loop, pipe.kernel) >= 0.005) share(text, pipe.name, pipe.loop, pipe.kernel);
  if (!timeline.waits.empty()) {
    text += "\n  warps in the loop, predicted: of their time\n";
    for (size_t at = 0; at < timeline.waits.size() && at < 5; ++at)
      if (timeline.waits[at].second >= 0.01)
        add(text, "  %4.0f %%  wait for %s\n", 100 * timeline.waits[at].second, timeline.waits[at].first.c_str());
  }
  text += "\n";
  add(text, "  %-28s %d blocks of %d warps an SM, no more for %s; %d registers a thread\n", "occupancy",
      timeline.blocksPerUnit, timeline.warpsPerBlock, timeline.limit.c_str(), timeline.registers);
  add(text, "  %-28s %zu, %.2f waves over the chip\n", "blocks", timeline.blocks, timeline.waves);
  if (loop) {
    add(text, "  %-28s %zu, of these %zu masked\n", "turns of the loop", timeline.turns, timeline.partialTurns);
    add(text, "  %-28s %.0f cycles, %.0f instructions a warp; masked %.0f, %.0f\n", "a turn of all blocks of an SM",
        timeline.fullCycles, timeline.fullInstructions, timeline.partialCycles, timeline.partialInstructions);
    add(text, "  %-28s %.0f cycles before it, %.0f after it\n", "a block outside its loop", timeline.beforeCycles,
        timeline.afterCycles);
    if (timeline.onceCycles > 0)
      add(text, "  %-28s %.0f cycles, then programs until none is left\n", "a block at its beginning",
          timeline.onceCycles);
  }
  add(text, "  %-28s SMs %.1f us, L2 %.1f us, memory %.1f us\n", "each bound alone", 1e6 * timeline.loopSeconds,
      1e6 * timeline.l2Seconds, 1e6 * timeline.memorySeconds);
  if (timeline.clock < timeline.boostClock)
    add(text, "  %-28s %.2f GHz, less than %.2f for the tensor cores' power\n", "clock under load", timeline.clock,
        timeline.boostClock);
  for (const std::string &note : timeline.notes) add(text, "  note: %s\n", note.c_str());
  return text;
}

}  // namespace weft::timeline
