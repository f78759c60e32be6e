// weft sample: text from a model at the terminal.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <stdexcept>

#include "cli/commands.h"
#include "cli/model_options.h"
#include "models/checkpoint.h"
#include "models/interrupt.h"
#include "models/sample.h"
#include "models/user_files.h"

namespace weft::cli {
namespace {

struct Options {
  std::string checkpoint, prompt = "The ", promptFile, device;
  bool recompute = false;
  SampleOptions sampling;
};

constexpr size_t promptLimit = 16 << 20;

/// All of standard input.
std::string readInput() {
  std::string text;
  char part[4096];
  while (const size_t size = std::fread(part, 1, sizeof part, stdin)) {
    text.append(part, size);
    if (text.size() > promptLimit)
      throw std::runtime_error("expected at most " + std::to_string(promptLimit) + " bytes of a prompt");
  }
  if (std::ferror(stdin)) throw std::runtime_error("cannot read standard input");
  return text;
}

/// Bytes the UTF-8 sequence has that begins so; 1 for what begins none.
size_t sequenceLength(unsigned char first) {
  return first >= 0xf0 && first < 0xf8 ? 4 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xc2 && first < 0xe0 ? 2 : 1;
}

/// Writes at once, but of a character of several bytes all at a time.
class Writer {
 public:
  void add(char byte) {
    const bool continues = (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
    if (!continues) flush();
    held += byte;
    if (held.size() >= sequenceLength(static_cast<unsigned char>(held[0]))) flush();
  }
  /// A terminal is not shown the half of a character that a text ends with.
  void finish() {
    if (isatty(STDOUT_FILENO)) held.clear();
    flush();
  }

 private:
  std::string held;

  void flush() {
    std::fwrite(held.data(), 1, held.size(), stdout);
    std::fflush(stdout);
    held.clear();
  }
};

int run(Options &options) {
  const torch::Device device = prepare(options.device);
  if (options.promptFile == "-") options.prompt = readInput();
  else if (!options.promptFile.empty()) options.prompt = readUserFile(options.promptFile, promptLimit);
  options.sampling.cache = !options.recompute;
  Checkpoint checkpoint = loadCheckpoint(options.checkpoint, device);
  std::fwrite(options.prompt.data(), 1, options.prompt.size(), stdout);
  std::fflush(stdout);
  int64_t made = 0;
  Writer writer;
  const auto start = std::chrono::steady_clock::now();
  sample(checkpoint.model, options.prompt, options.sampling, [&](char byte) {
    writer.add(byte);
    ++made;
  });
  writer.finish();
  std::fputc('\n', stdout);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "%lld bytes, %.0f a second\n", static_cast<long long>(made),
               static_cast<double>(made) / std::max(seconds, 1e-9));
  return interruptCode();
}

}  // namespace

void addSample(CLI::App &app, Action &action) {
  auto o = std::make_shared<Options>();
  CLI::App *command = app.add_subcommand("sample", "Write text");
  addCheckpoint(command, o->checkpoint);
  CLI::Option *prompt = command->add_option("--prompt", o->prompt, "Text to go on from")->capture_default_str();
  command->add_option("--prompt-file", o->promptFile, "The same from a file; -: from standard input")->excludes(prompt);
  command->add_option("--length", o->sampling.length, "Bytes to write")->capture_default_str();
  command->add_option("--temperature", o->sampling.temperature, "0 takes the most likely byte")->capture_default_str();
  command->add_option("--top-k", o->sampling.topK, "Only out of the k most likely bytes, 1 to 256")
      ->capture_default_str();
  command
      ->add_option("--top-p", o->sampling.topP,
                   "Only out of the most likely bytes that have this probability together, above 0, at most 1")
      ->capture_default_str();
  command->add_option("--stop", o->sampling.stop, "End before this text; may be given more than once")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_flag("--no-cache", o->recompute, "Compute the whole context for each byte");
  command->add_option("--seed", o->sampling.seed, "Of the random choices")->capture_default_str();
  addDevice(command, o->device);
  command->callback([&action, o] { action = [o] { return run(*o); }; });
}

}  // namespace weft::cli
