#include "cli/model_options.h"

#include <malloc.h>

#include <climits>

#include <torch/utils.h>

#include "models/data.h"
#include "models/interrupt.h"
#include "ops/attention.h"
#include "runtime/environment.h"

namespace weft::cli {

std::string dataPath(const std::string &given) {
  if (!given.empty()) return given;
  if (std::string path = environment::data(); !path.empty()) return path;
  return "data/enwik8";
}

void addText(CLI::App *command, std::string &path, uint64_t &limit) {
  limit = static_cast<uint64_t>(defaultTextLimit);
  command->add_option("--data", path, "Text: raw, .gz or .zip (default: WEFT_DATA, else data/enwik8)");
  command
      ->add_option("--data-limit", limit,
                   "Refuse more text than this, also inside an archive: bytes, or 500MB, 8GiB (default: 4GiB)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 50));
}

void addCheckpoint(CLI::App *command, std::string &place) {
  command->add_option("--checkpoint", place, "A run's folder, or a checkpoint: runs/a/best.pt, model.safetensors")
      ->required();
}

void addDevice(CLI::App *command, std::string &device) {
  device = "cpu";
  command->add_option("--device", device, "cpu, cuda, cuda:N or ptx-emulator (slow, checks all)")
      ->envname("WEFT_DEVICE")
      ->capture_default_str();
}

torch::Device prepare(const std::string &device, const Launch &launch) {
  if (const int threads = environment::threads(); threads > 0) torch::set_num_threads(threads);
  catchInterrupts();
  // Each step takes the same memory again. Given back to the system in between, it would be cleared anew, page by page.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // more than that glibc refuses
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  if (device == "cuda" && launch.size > 1) return ops::useDevice("cuda:" + std::to_string(launch.localRank));
  return ops::useDevice(device);
}

}  // namespace weft::cli
