// weft export: a trained model for other programs.
#include <cstdio>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "models/exchange.h"
#include "models/user_files.h"

namespace weft::cli {

void addExport(CLI::App &app, Action &action) {
  struct Options {
    std::string checkpoint, out;
  };
  auto o = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("export", "Write a trained model as a file of safetensors");
  addCheckpoint(command, o->checkpoint);
  command->add_option("--out", o->out, "The file, as model.safetensors")->required();
  command->callback([&action, o] {
    action = [o] {
      if (!isExported(o->out)) throw std::runtime_error("expected --out to end in .safetensors, got " + o->out);
      demandReplaceable(o->out);
      Checkpoint checkpoint = loadCheckpoint(o->checkpoint);
      writeFile(o->out, exportModel(checkpoint));
      std::printf("%s: %lld parameters of %s, step %lld\n", o->out.c_str(),
                  static_cast<long long>(checkpoint.model->parameterCount()), checkpoint.config.model.attention.c_str(),
                  static_cast<long long>(checkpoint.step));
      return 0;
    };
  });
}

}  // namespace weft::cli
