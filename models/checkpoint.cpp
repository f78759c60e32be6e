#include "models/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace weft {
namespace fs = std::filesystem;

static fs::path pathOf(const std::string &directory) { return fs::path(directory) / "checkpoint.pt"; }

void saveCheckpoint(const std::string &directory, const Config &config, int64_t step, Gpt &model,
                    torch::optim::Optimizer &optimizer) {
  fs::create_directories(directory);
  torch::serialize::OutputArchive archive, weights, state;
  model->save(weights);
  optimizer.save(state);
  archive.write("model", weights);
  archive.write("optimizer", state);
  archive.write("step", c10::IValue(step));
  archive.write("config", c10::IValue(printConfig(config)));
  const fs::path path = pathOf(directory), temporary = path.string() + ".tmp";
  try {
    archive.save_to(temporary.string());
    const int file = open(temporary.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0 || fsync(file) != 0) {
      if (file >= 0) close(file);
      throw std::runtime_error(std::strerror(errno));
    }
    close(file);
    fs::rename(temporary, path);
  } catch (const std::exception &error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw std::runtime_error("cannot write " + path.string() + ": " + error.what() +
                             "; the checkpoint before it is untouched");
  }
}

static torch::serialize::InputArchive openArchive(const std::string &directory) {
  const fs::path path = pathOf(directory);
  if (!fs::exists(path)) throw std::runtime_error("no checkpoint at " + path.string() + "; train one with: weft train");
  torch::serialize::InputArchive archive;
  try {
    archive.load_from(path.string());
  } catch (const std::exception &) {
    throw std::runtime_error(path.string() + " is damaged and cannot be read; remove it, or restore a copy");
  }
  return archive;
}

Checkpoint loadCheckpoint(const std::string &directory) {
  auto archive = openArchive(directory);
  Checkpoint checkpoint;
  try {
    c10::IValue step, config;
    archive.read("step", step);
    archive.read("config", config);
    checkpoint.step = step.toInt();
    checkpoint.config = parseConfig(config.toStringRef(), pathOf(directory).string());
    checkpoint.model = Gpt(checkpoint.config.model);
    torch::serialize::InputArchive weights;
    archive.read("model", weights);
    checkpoint.model->load(weights);
  } catch (const c10::Error &error) {
    throw std::runtime_error(pathOf(directory).string() + " does not fit this program: " + error.what_without_backtrace());
  }
  return checkpoint;
}

void loadOptimizer(const std::string &directory, torch::optim::Optimizer &optimizer) {
  auto archive = openArchive(directory);
  torch::serialize::InputArchive state;
  archive.read("optimizer", state);
  optimizer.load(state);
}

}  // namespace weft
