#include "benchmarks/peak.h"

#include <algorithm>
#include <chrono>

#include <torch/utils.h>

#include "benchmarks/peers.h"

namespace weft::bench {
namespace {

Roof matrixProduct(torch::Device device, ElementType type) {
  torch::NoGradGuard guard;
  constexpr int64_t n = 8192;
  const auto kind = type == ElementType::BF16  ? torch::kBFloat16
                    : type == ElementType::F16 ? torch::kHalf
                                               : torch::kFloat;
  const torch::Tensor a = torch::randn({n, n}, device).to(kind), b = torch::randn({n, n}, device).to(kind);
  double best = 1e9;
  for (int turn = 0; turn < 7; ++turn) {
    const auto start = std::chrono::steady_clock::now();
    torch::mm(a, b);
    synchronize(device);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {2.0 * n * n * n / best, "torch's product of 8192 x 8192, as no data sheet of this GPU is known: not a roof"};
}

}  // namespace

std::optional<Roof> peakOf(const Device &device, ElementType type) {
  auto roof = arithmeticRoof(device, type, torch::get_num_threads());
  if (!roof && device.kind == Device::Kind::Cuda)
    return matrixProduct(torch::Device(torch::kCUDA, static_cast<torch::DeviceIndex>(device.index)), type);
  return roof;
}

Roof raisedPeak(const Device &device, ElementType type, double achieved) {
  Roof roof = arithmeticRoofAgain(device, type, torch::get_num_threads()).value_or(Roof{});
  if (roof.rate < achieved) roof = {achieved, "the highest rate seen: the measured peak was lower"};
  return roof;
}

}  // namespace weft::bench
