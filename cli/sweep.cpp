// weft sweep: a training run for each combination of settings.
#include <cstdio>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "models/interrupt.h"
#include "models/sweep.h"
#include "models/user_files.h"

namespace weft::cli {

void addSweep(CLI::App &app, Action &action) {
  struct Options {
    std::string config, data, device;
    uint64_t dataLimit;
    SweepOptions sweep;
  };
  auto o = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("sweep", "Train once for each combination of settings; the best first");
  command->add_option("--config", o->config, "JSON file, see models/configs")->required();
  addText(command, o->data, o->dataLimit);
  command
      ->add_option("--vary", o->sweep.varied, "Values of a setting, as train.lr=1e-3,3e-3; may be given more than once")
      ->required();
  command->add_option("--set", o->sweep.settings, "Overrides of all runs, as train.steps=500");
  command->add_option("--out", o->sweep.directory, "Folder for the runs and sweep.json; a sweep that is there goes on")
      ->required();
  addDevice(command, o->device);
  command->callback([&action, o] {
    action = [o] {
      if (readLaunch().size > 1)
        throw std::invalid_argument(
            "weft sweep trains one run after another in one process; under torchrun start weft train for each");
      o->sweep.device = prepare(o->device);
      o->sweep.config = readUserFile(o->config, configLimit);
      o->sweep.origin = o->config;
      sweepRuns(o->sweep);  // what is wrong is said before the text is read
      const nlohmann::json results = sweep(o->sweep, loadText(dataPath(o->data), static_cast<int64_t>(o->dataLimit)));
      std::printf("%sresults  %s/sweep.json%s\n", sweepTable(results).c_str(), o->sweep.directory.c_str(),
                  results["complete"] ? "" : ", not complete: the same command goes on");
      return interruptCode();
    };
  });
}

}  // namespace weft::cli
