// weft run: a variant on random tensors, on any device: time, kept tiles, and what the emulator counted.
#include <chrono>
#include <cstdio>
#include <sstream>

#include "models/cli/commands.h"
#include "ops/attention.h"
#include "ops/variant_library.h"
#include "runtime/device.h"

namespace weft::cli {
namespace {

struct Options {
  std::string variant, device, shape = "1,2,256,64", type = "bf16";
  bool backward = false;
};

std::vector<int64_t> numbers(const std::string &text) {
  std::vector<int64_t> list;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) list.push_back(std::stoll(part));
  if (list.size() != 4 || *std::min_element(list.begin(), list.end()) < 1)
    throw std::runtime_error("expected --shape B,H,T,D of positive numbers, got '" + text + "'");
  return list;
}

/// Spans and windows of half the length, periods of 4, one document a quarter; else normal numbers.
torch::Tensor random(const InputInfo &input, const std::map<std::string, int64_t> &dims, at::ScalarType type, torch::Device device) {
  std::vector<int64_t> shape;
  for (const std::string &dim : input.dims) shape.push_back(dims.count(dim) ? dims.at(dim) : 16);
  const int64_t T = dims.at("T");
  torch::Tensor value;
  if (input.isBool) value = torch::rand(shape) < 0.5;
  else if (input.isInt && input.name.find("doc") != std::string::npos) value = (torch::arange(T) * 4 / T).to(torch::kInt).expand(shape).contiguous();
  else if (input.isInt) value = torch::full(shape, std::max<int64_t>(T / 2, 1), torch::kInt);
  else if (input.name == "span") value = torch::full(shape, static_cast<double>(T) / 2);
  else if (input.name == "period") value = torch::full(shape, 4.0);
  else if (input.name == "ratio") value = torch::zeros(shape);
  else if (input.name == "slope" || input.name == "keep") value = torch::rand(shape) * 0.1;
  else value = torch::randn(shape);
  if (input.isRow) value = value.to(type);
  value = value.to(device);
  return input.isFloat ? value.requires_grad_() : value;
}

int run(const Options &options) {
  const std::vector<int64_t> sizes = numbers(options.shape);
  auto variant = findVariant(options.variant);
  std::map<std::string, int64_t> dims{{"B", sizes[0]}, {"H", sizes[1]}, {"G", sizes[1]}, {"T", sizes[2]}, {"S", sizes[2]},
                                      {"D", sizes[3]}, {"E", sizes[3]}, {"N", 2 * sizes[2]}};
  const Device device = parseDevice(options.device);
  const torch::Device place = ops::useDevice(options.device);
  const at::ScalarType type = options.type == "f32" ? at::kFloat : options.type == "bf16" ? at::kBFloat16 : at::kHalf;
  torch::manual_seed(0);
  std::vector<std::string> names;
  std::vector<torch::Tensor> tensors;
  for (const InputInfo &input : variant->inputs()) {
    names.push_back(input.name);
    tensors.push_back(random(input, dims, type, place));
  }
  auto once = [&] {
    const auto start = std::chrono::steady_clock::now();
    torch::Tensor out = ops::attention(options.variant, names, tensors);
    if (options.backward) out.sum().backward();
    const bool finite = out.isfinite().all().item<bool>();  // waits for a GPU
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!finite) throw std::runtime_error("the output holds numbers that are not finite");
    return seconds;
  };
  const bool emulated = device.kind == Device::Kind::PtxEmulator;
  const double first = once(), second = emulated ? first : once();
  const ops::KeptTiles kept = ops::keptTiles(options.variant, names, tensors);
  int64_t sum = 0;
  for (int64_t own : kept.kept) sum += own;
  std::printf("%s on %s, [%lld, %lld, %lld, %lld] %s, %s\n", variant->name().c_str(), name(device).c_str(), static_cast<long long>(sizes[0]),
              static_cast<long long>(sizes[1]), static_cast<long long>(sizes[2]), static_cast<long long>(sizes[3]), options.type.c_str(),
              options.backward ? "forward and backward" : "forward");
  std::printf("  kept tiles  %lld of %lld (%.1f%%)\n", static_cast<long long>(sum), static_cast<long long>(kept.total * static_cast<int64_t>(kept.kept.size())),
              100.0 * static_cast<double>(sum) / static_cast<double>(std::max<int64_t>(1, kept.total * static_cast<int64_t>(kept.kept.size()))));
  if (!emulated) {
    std::printf("  time        %.3f ms (the first call, with compiling: %.1f ms)\n", 1e3 * second, 1e3 * first);
    return 0;
  }
  const EmulatorReport report = ops::emulatorReport();
  auto line = [&](const char *what, int64_t count) {
    std::printf("  %-22s %12lld   %10.1f a kept tile\n", what, static_cast<long long>(count), static_cast<double>(count) / static_cast<double>(std::max<int64_t>(sum, 1)));
  };
  line("warp instructions", report.instructions);
  line("mma", report.mma);
  line("ldmatrix", report.ldmatrix);
  line("shared bytes", report.sharedBytes);
  line("global bytes", report.globalBytes);
  line("barriers", report.barriers);
  line("bank conflicts", report.bankConflicts);
  // Two products forward, seven in the two passes backward, each of 64 x 64 x D in steps of 16 x 8 x 16 (f32: three of 16 x 8 x 8).
  const double step = options.type == "f32" ? 16 * 8 * 8 / 3.0 : 16 * 8 * 16;
  std::printf("  ideal mma of q k' and p v: %.1f a kept tile of 64 x 64%s\n", (options.backward ? 9 : 2) * 64.0 * 64 * static_cast<double>(sizes[3]) / step,
              options.backward ? ", with the backward pass" : "");
  std::printf("no access out of bounds, no race, no value read before it was written\n");
  return 0;
}

}  // namespace

void addRun(CLI::App &app, Action &action) {
  auto options = std::make_shared<Options>();
  options->device = "cpu";
  CLI::App *command = app.add_subcommand("run", "Run a variant on random tensors");
  command->add_option("variant", options->variant, "A library variant or a file")->required();
  command->add_option("--device", options->device, "cpu, cuda, cuda:N or ptx-emulator")->envname("WEFT_DEVICE")->capture_default_str();
  command->add_option("--shape", options->shape, "B,H,T,D")->capture_default_str();
  command->add_option("--dtype", options->type, "f32, bf16 or f16")->check(CLI::IsMember({"f32", "bf16", "f16"}))->capture_default_str();
  command->add_flag("--backward", options->backward, "The gradients too");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace weft::cli
