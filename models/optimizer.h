// AdamW by torch's fused kernels, and Muon for the matrices of blocks.
//
// Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): the step of a matrix is its
// gradient's mean, with Nesterov's look ahead, made orthogonal: its singular values are taken near 1 by five steps of a
// Newton-Schulz iteration. Matrices of one shape are iterated together.
#pragma once

#include <string>
#include <vector>

#include <torch/serialize/archive.h>
#include <torch/types.h>

#include "models/config.h"
#include "models/gpt.h"

namespace weft {

class Optimizer {
 public:
  Optimizer(Gpt &model, const TrainConfig &config);

  /// With the gradients that the parameters have (those without are left as they are) and learning rates times `share`.
  void step(double share);
  void zeroGradients();
  void save(torch::serialize::OutputArchive &archive) const;
  /// The state of an optimizer of the same parameters; the settings stay those this one was made with. Throws
  /// std::runtime_error where it is of another kind or of other shapes.
  void load(torch::serialize::InputArchive &archive);

 private:
  /// A parameter under AdamW: means of the gradient and of its square, and a scalar, the steps.
  struct Adam {
    std::string name;
    torch::Tensor parameter, mean, square, steps;
    bool decays = false;
  };
  /// A parameter under Muon, `parts` matrices one below the other.
  struct Momentum {
    std::string name;
    torch::Tensor parameter, mean;
    int64_t parts = 1;
  };
  TrainConfig config;
  std::vector<Adam> adams;
  std::vector<Momentum> momenta;

  void stepAdam(double share);
  void stepMuon(double share);
  /// Calls visit(key, tensor) for all that a checkpoint holds: "block0/up/weight:mean", for a dot would be the name of
  /// a module.
  template <class Visit>
  void eachState(Visit visit) const;
};

/// The nearest matrix with singular values of about 1 of each matrix of x [count, m, n].
torch::Tensor orthogonalized(const torch::Tensor &x);

/// Share of the learning rate at a step: rises over `warmup` steps, then falls to lr_min / lr by a cosine, or stays and
/// falls by a line in the last `cooldown` share of all steps.
double learningRateShare(const TrainConfig &config, int64_t step);

}  // namespace weft
