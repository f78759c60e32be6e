// The `weft` command line.
#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include <c10/util/Exception.h>

#include "cli/commands.h"
#include "models/interrupt.h"
#include "models/launch.h"
#include "models/spelling.h"

/// What is wrong with the first word, or nothing: CLI11 would only say that it misses a command.
static std::string unknownCommand(const CLI::App &app, int argc, char **argv) {
  if (argc < 2 || argv[1][0] == '-') return {};
  std::vector<std::string> names;
  for (const CLI::App *command : app.get_subcommands({})) names.push_back(command->get_name());
  if (std::ranges::count(names, argv[1])) return {};
  return weft::unknownName("command", argv[1], weft::nearestName(argv[1], names), "weft --help");
}

int main(int argc, char **argv) {
  CLI::App app{
      "Weft compiles attention variants to kernels, and trains models with them.\n\n"
      "  weft variants                                     what the library holds\n"
      "  weft check FILE...                                errors of a variant, or ok\n"
      "  weft compile causal --kernel forward --emit=tile  any stage of a kernel\n"
      "  weft run causal --device ptx-emulator             a variant on random tensors, on any device\n"
      "  weft tune causal adaptive_span --budget 60s       the fastest tiles on this device, kept\n"
      "  weft data                                         enwik8, to train on\n"
      "  weft train --config models/configs/small_span_periodic.json --data FILE --out runs/a\n"
      "  weft eval --checkpoint runs/a --data FILE         bpc, spans, kept tiles, masks\n"
      "  weft eval --checkpoint runs/a --mass anchor       what a selection misses of a model's attention\n"
      "  weft sweep --config FILE --vary lr=1e-3,3e-3      a training run for each value, the best first\n"
      "  weft report runs/a runs/b                         training runs side by side, one HTML page\n"
      "  weft bench --peers sdpa,flex                      kernels beside their peers: table, JSON, HTML\n"
      "  weft decode-cost sliding_window --device h100     time and memory traffic of a new token, by length\n"
      "  weft sample --checkpoint runs/a --prompt 'The '   text\n"
      "  weft export --checkpoint runs/a --out a.safetensors   the model for other programs\n"};
  app.require_subcommand(1);
  weft::cli::Action action;
  weft::cli::addVariants(app, action);
  weft::cli::addCheck(app, action);
  weft::cli::addCompile(app, action);
  weft::cli::addData(app, action);
  weft::cli::addTrain(app, action);
  weft::cli::addEval(app, action);
  weft::cli::addSample(app, action);
  weft::cli::addExport(app, action);
  weft::cli::addSweep(app, action);
  weft::cli::addRun(app, action);
  weft::cli::addTune(app, action);
  weft::cli::addBench(app, action);
  weft::cli::addDecodeCost(app, action);
  weft::cli::addReport(app, action);
  if (const std::string unknown = unknownCommand(app, argc, argv); !unknown.empty()) {
    std::fprintf(stderr, "weft: %s\n", unknown.c_str());
    return 2;
  }
  CLI11_PARSE(app, argc, argv);
  try {
    const int code = action();
    // What was printed may have gone nowhere: a full disk; a reader that left is no error of ours.
    const bool lost = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
    if (lost && !weft::interrupted()) throw std::runtime_error("cannot write to standard output");
    return code;
  } catch (const c10::Error &error) {
    std::fprintf(stderr, "weft: %s%s\n", weft::rankPrefix().c_str(), error.what_without_backtrace());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "weft: %s%s\n", weft::rankPrefix().c_str(), error.what());
  }
  return 1;
}
