#include "models/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include <torch/utils.h>

#include "models/tensor_text.h"

namespace weft {

using torch::Tensor;

namespace {

constexpr double adamEpsilon = 1e-8;

}  // namespace

Optimizer::Optimizer(Gpt &model, const TrainConfig &config) : config(config) {
  const torch::NoGradGuard guard;
  for (auto &item : model->named_parameters()) {
    const Tensor &parameter = item.value();
    const bool matrix = GptImpl::isMatrix(item.key(), parameter), inBlock = item.key().starts_with("block");
    if (config.optimizer == "muon" && matrix && inBlock)
      momenta.push_back(
          {item.key(), parameter, torch::zeros_like(parameter), GptImpl::matricesIn(item.key(), model->config)});
    else
      adams.push_back({item.key(), parameter, torch::zeros_like(parameter), torch::zeros_like(parameter),
                       torch::zeros({}, parameter.options().dtype(torch::kFloat)), matrix});
  }
}

template <class Visit>
void Optimizer::eachState(Visit visit) const {
  auto named = [&](std::string name, const char *what, const Tensor &tensor) {
    std::ranges::replace(name, '.', '/');
    visit(name + what, tensor);
  };
  for (const Adam &adam : adams) {
    named(adam.name, ":mean", adam.mean);
    named(adam.name, ":square", adam.square);
    named(adam.name, ":steps", adam.steps);
  }
  for (const Momentum &momentum : momenta) named(momentum.name, ":momentum", momentum.mean);
}

void Optimizer::save(torch::serialize::OutputArchive &archive) const {
  eachState([&](const std::string &key, const Tensor &tensor) { archive.write(key, tensor, true); });
}

void Optimizer::load(torch::serialize::InputArchive &archive) {
  const torch::NoGradGuard guard;
  eachState([&](const std::string &key, const Tensor &tensor) {
    Tensor read;
    if (!archive.try_read(key, read, true))
      throw std::runtime_error("the checkpoint's optimizer does not fit: it has no '" + key +
                               "', so train.optimizer was another, or an earlier version wrote it");
    if (const std::string wrong = mismatch(read, tensor); !wrong.empty())
      throw std::runtime_error("the checkpoint's optimizer does not fit: '" + key + "'" + wrong);
    tensor.copy_(read);
  });
}

void Optimizer::zeroGradients() {
  for (Adam &adam : adams) adam.parameter.mutable_grad().reset();
  for (Momentum &momentum : momenta) momentum.parameter.mutable_grad().reset();
}

void Optimizer::step(double share) {
  const torch::NoGradGuard guard;
  stepAdam(share);
  stepMuon(share);
}

void Optimizer::stepAdam(double share) {
  for (const bool decays : {false, true}) {
    std::vector<Tensor> parameters, gradients, means, squares, steps;
    for (Adam &adam : adams) {
      if (adam.decays != decays || !adam.parameter.grad().defined()) continue;
      adam.steps.add_(1);
      parameters.push_back(adam.parameter);
      gradients.push_back(adam.parameter.grad());
      means.push_back(adam.mean);
      squares.push_back(adam.square);
      steps.push_back(adam.steps);
    }
    if (parameters.empty()) continue;
    at::_fused_adamw_(parameters, gradients, means, squares, {}, steps, config.lr * share, config.beta1, config.beta2,
                      decays ? config.weightDecay : 0, adamEpsilon, false, false);
  }
}

void Optimizer::stepMuon(double share) {
  const double rate = config.muonLr * share;
  // Of one shape, together.
  std::map<std::pair<int64_t, int64_t>, std::vector<Tensor>> places, steps;
  for (Momentum &momentum : momenta) {
    const Tensor &gradient = momentum.parameter.grad();
    if (!gradient.defined()) continue;
    momentum.mean.lerp_(gradient, 1 - config.momentum);
    const std::vector<Tensor> ahead = gradient.lerp(momentum.mean, config.momentum).chunk(momentum.parts, 0),
                              own = momentum.parameter.chunk(momentum.parts, 0);
    const std::pair shape(own[0].size(0), own[0].size(1));
    steps[shape].insert(steps[shape].end(), ahead.begin(), ahead.end());
    places[shape].insert(places[shape].end(), own.begin(), own.end());
  }
  for (auto &[shape, list] : steps) {
    // A few bits of a direction are enough where the gradients had no more.
    Tensor all = torch::stack(list);
    all = config.precision == "f32" ? orthogonalized(all) : orthogonalized(all.to(torch::kBFloat16));
    // A tall matrix then gives outputs as large as a square one.
    const double scale = std::sqrt(std::max(1.0, static_cast<double>(shape.first) / static_cast<double>(shape.second)));
    const std::vector<Tensor> &own = places[shape];
    for (size_t at = 0; at < own.size(); ++at) {
      Tensor place = own[at];
      place.mul_(1 - rate * config.weightDecay);
      place.sub_(all[static_cast<int64_t>(at)], rate * scale);
    }
  }
}

Tensor orthogonalized(const Tensor &x) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;  // of Jordan et al.: steepest at 0
  const bool tall = x.size(-2) > x.size(-1);
  Tensor y = tall ? x.transpose(-1, -2) : x;
  const Tensor norm = torch::linalg_vector_norm(y, 2, {-2, -1}, true, torch::kFloat) + 1e-7;
  y = (y / norm).to(x.scalar_type());
  for (int round = 0; round < 5; ++round) {
    const Tensor square = torch::bmm(y, y.transpose(-1, -2));
    y = torch::baddbmm(y, torch::baddbmm(square, square, square, b, c), y, a, 1);
  }
  return tall ? y.transpose(-1, -2) : y;
}

double learningRateShare(const TrainConfig &config, int64_t step) {
  if (step < config.warmup) return static_cast<double>(step + 1) / static_cast<double>(config.warmup);
  const double least = config.lrMin / config.lr;
  const double after = std::max<double>(1, static_cast<double>(config.steps - config.warmup));
  const double done = std::min(1.0, static_cast<double>(step - config.warmup) / after);
  if (config.schedule == "cosine") return least + (1 - least) * 0.5 * (1 + std::cos(M_PI * done));
  const double fall = config.cooldown * static_cast<double>(config.steps);
  const double left = static_cast<double>(config.steps - step);
  return fall <= 0 ? 1 : least + (1 - least) * std::min(1.0, left / fall);
}

}  // namespace weft
