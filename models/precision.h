// The type of a training's products: f32, or bf16 or f16 by torch's autocast, with weights, losses and norms in f32.
#pragma once

#include <string>

#include <torch/types.h>

namespace weft {

/// "auto" as f32 or bf16: bf16 on a GPU that has products of it (compute capability 8.0 on) and on CPUs with AMX or
/// AVX-512 BF16; what is given otherwise.
std::string resolvePrecision(const std::string &precision, torch::Device device);

/// While it lives, operators of this thread run in `precision` on the device's kind, as under torch.autocast. Nothing
/// for f32.
class Autocast {
 public:
  Autocast(const std::string &precision, torch::Device device);
  ~Autocast();
  Autocast(const Autocast &) = delete;
  Autocast &operator=(const Autocast &) = delete;
  /// The precision that operators of this thread now have there.
  static std::string current(torch::Device device);

 private:
  bool active;
  torch::DeviceType kind;
  bool enabledBefore = false;
  torch::ScalarType typeBefore = torch::kFloat;
};

/// The factor of the loss that keeps the gradients of f16 within its range: halved with each step whose gradients are
/// not finite, which is left out, and doubled after `patience` steps that were (Micikevicius et al., "Mixed Precision
/// Training", 2018). 1 throughout for other types.
class LossScale {
 public:
  static constexpr int64_t patience = 2000;
  /// Below it no gradient was finite for reasons that no factor mends.
  static constexpr double least = 1.0 / 1024;

  explicit LossScale(const std::string &precision) : active(precision == "f16"), factor(active ? 65536 : 1) {}
  bool isActive() const { return active; }
  double value() const { return factor; }
  /// After a step; false where it must be left out.
  bool update(bool finite);
  /// For checkpoints: [factor, steps since it changed].
  torch::Tensor state() const { return torch::tensor({factor, static_cast<double>(steps)}, torch::kDouble); }
  void restore(const torch::Tensor &state);

 private:
  bool active;
  double factor;
  int64_t steps = 0;
};

}  // namespace weft
