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
  // To memory first: torch's own file writer ends the process when the disk is full.
  std::string bytes;
  archive.save_to([&](const void *data, size_t size) {
    bytes.append(static_cast<const char *>(data), size);
    return size;
  });
  const fs::path path = pathOf(directory), temporary = path.string() + ".tmp";
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool ok = file >= 0;
  for (size_t done = 0; ok && done < bytes.size();) {
    const ssize_t part = write(file, bytes.data() + done, bytes.size() - done);
    ok = part > 0;
    if (ok) done += static_cast<size_t>(part);
  }
  ok = ok && fsync(file) == 0;
  std::string reason = ok ? "" : std::strerror(errno);
  if (file >= 0) close(file);
  std::error_code code;
  if (ok) fs::rename(temporary, path, code);
  if (code) reason = code.message();
  if (reason.empty()) return;
  fs::remove(temporary, code);
  throw std::runtime_error("cannot write " + path.string() + ": " + reason +
                           "; the checkpoint before it is untouched");
}

static torch::serialize::InputArchive openArchive(const std::string &directory, torch::Device device) {
  const fs::path path = pathOf(directory);
  if (!fs::exists(path)) throw std::runtime_error("no checkpoint at " + path.string() + "; train one with: weft train");
  torch::serialize::InputArchive archive;
  try {
    archive.load_from(path.string(), device);
  } catch (const std::exception &) {
    throw std::runtime_error(path.string() + " is damaged and cannot be read; remove it, or restore a copy");
  }
  return archive;
}

Checkpoint loadCheckpoint(const std::string &directory, torch::Device device) {
  auto archive = openArchive(directory, device);
  Checkpoint checkpoint;
  try {
    c10::IValue step, config;
    archive.read("step", step);
    archive.read("config", config);
    checkpoint.step = step.toInt();
    checkpoint.config = parseConfig(config.toStringRef(), pathOf(directory).string());
    checkpoint.model = Gpt(checkpoint.config.model);
    checkpoint.model->to(device);
    torch::serialize::InputArchive weights;
    archive.read("model", weights);
    checkpoint.model->load(weights);
  } catch (const c10::Error &error) {
    throw std::runtime_error(pathOf(directory).string() + " does not fit this program: " + error.what_without_backtrace());
  }
  return checkpoint;
}

void loadOptimizer(const std::string &directory, torch::optim::Optimizer &optimizer, torch::Device device) {
  auto archive = openArchive(directory, device);
  torch::serialize::InputArchive state;
  archive.read("optimizer", state);
  optimizer.load(state);
}

}  // namespace weft
