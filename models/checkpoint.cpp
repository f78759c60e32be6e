#include "models/checkpoint.h"

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string_view>

#include "models/exchange.h"
#include "models/tensor_text.h"
#include "models/user_files.h"
#include "runtime/atomic_file.h"
#include "runtime/sha256.h"

namespace weft {
namespace fs = std::filesystem;

using torch::Tensor;

std::string checkpointIn(const std::string &directory) { return (fs::path(directory) / "checkpoint.pt").string(); }

/// What follows the archive; readers of zip archives look past it.
static std::string digestLine(std::string_view archive) {
  return "\nweft checkpoint, sha256 of what precedes this line: " + sha256(archive) + "\n";
}

void saveCheckpoint(const std::string &path, const Config &config, int64_t step, Gpt &model, const Optimizer &optimizer,
                    const LossScale &scale, std::optional<double> bpc) {
  torch::serialize::OutputArchive archive, weights, state;
  model->save(weights);
  optimizer.save(state);
  archive.write("model", weights);
  archive.write("optimizer", state);
  archive.write("loss_scale", scale.state(), true);
  archive.write("step", c10::IValue(step));
  archive.write("config", c10::IValue(printConfig(config)));
  if (bpc) archive.write("bpc", c10::IValue(*bpc));
  // To memory first: torch's own file writer ends the process when the disk is full.
  std::string bytes;
  archive.save_to([&](const void *data, size_t size) {
    bytes.append(static_cast<const char *>(data), size);
    return size;
  });
  bytes += digestLine(bytes);
  if (const std::string reason = replaceFile(path, bytes); !reason.empty())
    throw std::runtime_error("cannot write " + path + ": " + reason + "; the checkpoint before it is untouched");
}

/// The file meant by a run's folder, or by its own name.
static std::string fileAt(const std::string &place) {
  const bool named = fs::exists(place) ? !fs::is_directory(place) : fs::path(place).extension() == ".pt";
  const std::string path = named ? place : checkpointIn(place);
  if (!fs::exists(path)) throw std::runtime_error("no checkpoint at " + path + "; train one with: weft train");
  if (named && !fs::is_regular_file(path))
    throw std::runtime_error("expected the folder of a training run, or a checkpoint in it, got " + place);
  return path;
}

std::string readCheckpoint(const std::string &place) {
  if (isExported(place)) return readWhole(place);
  const std::string path = fileAt(place);
  std::string bytes = readWhole(path);
  static const size_t lineBytes = digestLine({}).size();
  const size_t archiveBytes = bytes.size() < lineBytes ? 0 : bytes.size() - lineBytes;
  // Without a digest, damage in the tensors cannot be told from trained weights: such a file is refused too.
  if (std::string_view(bytes).substr(archiveBytes) != digestLine(std::string_view(bytes).substr(0, archiveBytes)))
    throw std::runtime_error(
        path +
        " is no checkpoint, or is damaged: it does not end with the SHA-256 of its content (nor do "
        "checkpoints of versions before these digests). Restore a copy, or train anew");
  bytes.resize(archiveBytes);
  return bytes;
}

static void demandSame(const std::string &name, const Tensor &loaded, const Tensor &expected) {
  if (const std::string wrong = mismatch(loaded, expected); !wrong.empty()) throw std::runtime_error(name + wrong);
}

/// The tensor `name`, path.of.modules.name, as it lies in an archive.
static Tensor readTensor(torch::serialize::InputArchive &archive, const std::string &name) {
  const size_t dot = name.find('.');
  if (dot != std::string::npos) {
    torch::serialize::InputArchive inner;
    archive.read(name.substr(0, dot), inner);
    return readTensor(inner, name.substr(dot + 1));
  }
  Tensor tensor;
  archive.read(name, tensor);
  return tensor;
}

static void loadModel(Gpt &model, torch::serialize::InputArchive &weights) {
  // torch puts whatever bytes an archive holds under a module's tensors, of other shapes and types too.
  for (const auto &parameter : model->named_parameters())
    demandSame(parameter.key(), readTensor(weights, parameter.key()), parameter.value());
  model->load(weights);
}

[[noreturn]] static void refuse(const std::string &path, const std::string &reason) {
  throw std::runtime_error(path + " does not fit this program: " + reason);
}

Checkpoint loadCheckpoint(const std::string &place, torch::Device device) {
  return parseCheckpoint(readCheckpoint(place), place, device);
}

Checkpoint parseCheckpoint(const std::string &bytes, const std::string &place, torch::Device device) {
  if (isExported(place)) return importModel(bytes, place, device);
  const std::string path = fs::is_directory(place) ? checkpointIn(place) : place;
  Checkpoint checkpoint;
  try {
    torch::serialize::InputArchive archive, weights;
    archive.load_from(bytes.data(), bytes.size(), device);
    c10::IValue step, config, bpc;
    archive.read("step", step);
    archive.read("config", config);
    checkpoint.step = step.toInt();
    if (archive.try_read("bpc", bpc)) checkpoint.bpc = bpc.toDouble();
    checkpoint.config = parseConfig(config.toStringRef(), "its config");
    checkpoint.model = Gpt(checkpoint.config.model);
    checkpoint.model->to(device);
    archive.read("model", weights);
    loadModel(checkpoint.model, weights);
    archive.read("optimizer", checkpoint.optimizer);
    archive.try_read("loss_scale", checkpoint.lossScale, true);
  } catch (const c10::Error &error) {
    refuse(path, error.what_without_backtrace());
  } catch (const std::exception &error) {
    refuse(path, error.what());
  }
  return checkpoint;
}

void loadOptimizer(Checkpoint &checkpoint, Optimizer &optimizer) {
  try {
    optimizer.load(checkpoint.optimizer);
  } catch (const c10::Error &error) {
    throw std::runtime_error(std::string("the checkpoint's optimizer does not fit: ") + error.what_without_backtrace());
  }
}

void removeLeftovers(const std::string &directory) {
  std::error_code code;
  const auto recent = fs::file_time_type::clock::now() - std::chrono::minutes(1);
  for (const fs::directory_entry &entry : fs::directory_iterator(directory, code)) {
    const std::string name = entry.path().filename().string();
    const bool own =
        name.starts_with(".weft-") || name.starts_with("checkpoint.pt.") || name.starts_with("metrics.jsonl.");
    if (own && name.ends_with(".tmp") && fs::last_write_time(entry.path(), code) < recent)
      fs::remove(entry.path(), code);
  }
}

}  // namespace weft
