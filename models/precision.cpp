#include "models/precision.h"

#include <algorithm>

#include <ATen/autocast_mode.h>

#include "compiler/compiler.h"
#include "runtime/device.h"

namespace weft {
namespace {

/// Without these instructions torch's products of bf16 are slower than those of f32.
bool cpuMultipliesBf16() {
  const std::string features = hostIdentity();
  return features.find("+amx-bf16") != std::string::npos || features.find("+avx512bf16") != std::string::npos;
}

}  // namespace

std::string resolvePrecision(const std::string &precision, torch::Device device) {
  if (precision != "auto") return precision;
  if (device.is_cpu()) return cpuMultipliesBf16() ? "bf16" : "f32";
  return capabilityOf({Device::Kind::Cuda, std::max<int>(0, device.index())}) >= 80 ? "bf16" : "f32";
}

Autocast::Autocast(const std::string &precision, torch::Device device)
    : active(precision != "f32"), kind(device.type()) {
  if (!active) return;
  enabledBefore = at::autocast::is_autocast_enabled(kind);
  typeBefore = at::autocast::get_autocast_dtype(kind);
  at::autocast::set_autocast_enabled(kind, true);
  at::autocast::set_autocast_dtype(kind, precision == "f16" ? torch::kHalf : torch::kBFloat16);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active) return;
  // The weights' casts are kept until here: the next step's weights are others.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(kind, enabledBefore);
  at::autocast::set_autocast_dtype(kind, typeBefore);
}

std::string Autocast::current(torch::Device device) {
  if (!at::autocast::is_autocast_enabled(device.type())) return "f32";
  return at::autocast::get_autocast_dtype(device.type()) == torch::kHalf ? "f16" : "bf16";
}

bool LossScale::update(bool finite) {
  if (!active) return true;
  if (!finite) {
    factor /= 2;
    steps = 0;
  } else if (++steps == patience) {
    factor = std::min(2 * factor, 1e30);
    steps = 0;
  }
  return finite;
}

void LossScale::restore(const torch::Tensor &state) {
  if (!active) return;
  factor = state[0].item<double>();
  steps = static_cast<int64_t>(state[1].item<double>());
}

}  // namespace weft
