// weft report: training runs side by side on one HTML page.
#include <chrono>
#include <cstdio>
#include <thread>

#include "benchmarks/scripts.h"
#include "cli/commands.h"
#include "cli/python.h"
#include "models/interrupt.h"

namespace weft::cli {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string out = "runs/training.html";
  double live = 0;  ///< seconds; 0: once
};

/// With `reload`, a page that loads itself anew after as many seconds. Gives the exit code.
int writePage(const Options &options, double reload) {
  std::vector<std::string> arguments{options.out, std::to_string(reload)};
  arguments.insert(arguments.end(), options.runs.begin(), options.runs.end());
  return runPython(bench::trainingScript, arguments);
}

/// Until Ctrl-C. The page that stays does not load itself anew.
int follow(const Options &options) {
  using Clock = std::chrono::steady_clock;
  catchInterrupts();
  std::printf("report   %s, written anew every %g s until Ctrl-C\n", options.out.c_str(), options.live);
  std::fflush(stdout);
  while (!interrupted()) {
    const auto next = Clock::now() + std::chrono::duration<double>(options.live);
    // The signal of Ctrl-C reaches Python too, whose page then is the one before.
    if (const int code = writePage(options, options.live); code != 0 && !interrupted()) return code;
    while (!interrupted() && Clock::now() < next) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return writePage(options, 0);
}

}  // namespace

void addReport(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("report", "Compare training runs on one HTML page");
  command->add_option("runs", options->runs, "Folders of weft train")->required();
  command->add_option("--out", options->out, "The page")->capture_default_str();
  command
      ->add_option("--live", options->live,
                   "Write the page anew every so many seconds until Ctrl-C; in a browser it follows by itself")
      ->check(CLI::Range(0.1, 86400.0));
  command->callback([&action, options] {
    action = [options] {
      if (options->live > 0) return follow(*options);
      if (const int code = writePage(*options, 0); code != 0) return code;
      std::printf("report   %s\n", options->out.c_str());
      return 0;
    };
  });
}

}  // namespace weft::cli
