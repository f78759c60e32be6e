// weft run: a variant on random tensors, on any device: time, kept tiles, and what the emulator counted.
#include <chrono>
#include <cstdio>

#include <torch/utils.h>

#include "benchmarks/peers.h"
#include "cli/commands.h"
#include "ops/attention.h"
#include "ops/sample_inputs.h"
#include "ops/variant_library.h"
#include "runtime/device.h"

namespace weft::cli {
namespace {

struct Options {
  std::string variant, device, shape = "1,2,256,64", type = "bf16";
  bool backward = false;
};

int run(const Options &options) {
  const ops::SampleShape shape = ops::parseShape(options.shape);
  auto variant = findVariant(options.variant);
  const Device device = parseDevice(options.device);
  const torch::Device place = ops::useDevice(options.device);
  torch::manual_seed(0);
  const auto [names, tensors] = ops::sampleInputs(*variant, shape, ops::scalarType(options.type), place);
  auto once = [&] {
    const auto start = std::chrono::steady_clock::now();
    torch::Tensor out = ops::attention(options.variant, names, tensors);
    if (options.backward) out.sum().backward();
    bench::synchronize(place);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!out.isfinite().all().item<bool>()) throw std::runtime_error("the output holds numbers that are not finite");
    return seconds;
  };
  const bool emulated = device.kind == Device::Kind::PtxEmulator;
  const double first = once(), second = emulated ? first : once();
  const ops::KeptTiles kept = ops::keptTiles(options.variant, names, tensors);
  int64_t sum = 0;
  for (int64_t own : kept.kept) sum += own;
  std::printf("%s on %s, [%s] %s, %s\n", variant->name().c_str(), name(device).c_str(), shape.text().c_str(),
              options.type.c_str(), options.backward ? "forward and backward" : "forward");
  std::printf("  kept tiles  %lld of %lld (%.1f%%)\n", static_cast<long long>(sum),
              static_cast<long long>(kept.total * static_cast<int64_t>(kept.kept.size())),
              100.0 * static_cast<double>(sum) /
                  static_cast<double>(std::max<int64_t>(1, kept.total * static_cast<int64_t>(kept.kept.size()))));
  if (!emulated) {
    std::printf("  time        %.3f ms (the first call, with compiling: %.1f ms)\n", 1e3 * second, 1e3 * first);
    return 0;
  }
  const EmulatorReport report = ops::emulatorReport();
  auto line = [&](const char *what, int64_t count) {
    std::printf("  %-22s %12lld   %10.1f a kept tile\n", what, static_cast<long long>(count),
                static_cast<double>(count) / static_cast<double>(std::max<int64_t>(sum, 1)));
  };
  line("warp instructions", report.instructions);
  line("mma", report.mma);
  line("ldmatrix", report.ldmatrix);
  line("shared bytes", report.sharedBytes);
  line("global bytes", report.globalBytes);
  line("barriers", report.barriers);
  line("bank conflicts", report.bankConflicts);
  // Two products forward, seven in the two passes backward, each of 64 x 64 x D in steps of 16 x 8 x 16 (f32: three of
  // 16 x 8 x 8).
  const double step = options.type == "f32" ? 16 * 8 * 8 / 3.0 : 16 * 8 * 16;
  std::printf("  ideal mma of q k' and p v: %.1f a kept tile of 64 x 64%s\n",
              (options.backward ? 9 : 2) * 64.0 * 64 * static_cast<double>(shape.D) / step,
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
  command->add_option("--device", options->device, "cpu, cuda, cuda:N or ptx-emulator")
      ->envname("WEFT_DEVICE")
      ->capture_default_str();
  command->add_option("--shape", options->shape, "B,H,T,D")->capture_default_str();
  command->add_option("--dtype", options->type, "f32, bf16, f16 or, on CPUs, f64")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "f64"}))
      ->capture_default_str();
  command->add_flag("--backward", options->backward, "The gradients too");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace weft::cli
