#include "benchmarks/peers.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/utils.h>

#include "benchmarks/scripts.h"
#include "ops/attention.h"
#include "runtime/environment.h"
#include "runtime/process.h"

namespace weft::bench {

using nlohmann::json;
using torch::Tensor;
using Clock = std::chrono::steady_clock;

void synchronize(torch::Device device) {
  if (!device.is_cuda()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.index());
}

std::string pythonProgram() {
  if (std::string own = environment::python(); !own.empty()) return own;
  return std::filesystem::exists(WEFT_PYTHON) ? WEFT_PYTHON : "python3";
}

namespace {

const Tensor *named(const ops::SampleInputs &inputs, const std::string &name) {
  for (size_t at = 0; at < inputs.names.size(); ++at)
    if (inputs.names[at] == name) return &inputs.tensors[at];
  return nullptr;
}

/// Attention by LibTorch: the score is q k' / sqrt(D) plus what of the mask does not depend on q, as a bias.
class TorchPeer final : public Peer {
 public:
  explicit TorchPeer(bool fused) : fused(fused) {}

  std::string prepare(const Case &work, const ops::SampleInputs &inputs, const Tensor &want) override {
    const auto &shape = work.shape;
    const double bytes = static_cast<double>(shape.H * shape.T * shape.T) * (work.type == "f32" ? 4 : 2) *
                         (fused ? 1 : 4) * (work.backward ? 2 : 1);
    causal = work.variant == "causal";
    if ((!causal || !fused) && bytes > 4e9)
      return "T x S in memory: " + std::to_string(static_cast<int>(bytes / 1e9)) + " GB";
    for (const std::string &name : inputs.names)
      if (name == "u" || name == "w" || name == "r")
        return "its mask comes of the content: T x S numbers anew in each call";
    q = named(inputs, "q")->detach().requires_grad_();
    k = named(inputs, "k")->detach().requires_grad_();
    v = named(inputs, "v")->detach().requires_grad_();
    backward = work.backward;
    torch::NoGradGuard guard;
    if (!causal || !fused)
      bias = ops::maskShares(work.variant, inputs.names, inputs.tensors)
                 .to(torch::kFloat)
                 .log()
                 .unsqueeze(0)
                 .to(q.scalar_type());
    {
      torch::AutoGradMode mode(backward);
      out = forward();
    }
    const double off = (out.detach().to(torch::kFloat) - want.to(torch::kFloat)).abs().max().item<double>();
    const double limit = work.type == "f32" ? 1e-3 : 0.1;
    if (!(off < limit)) return "not this variant: the score is not q k' plus a bias";
    if (backward) gradient = torch::randn_like(out);
    return {};
  }

  double seconds() override {
    const auto start = Clock::now();
    if (backward) {
      torch::autograd::grad({out}, {q, k, v}, {gradient}, true);
    } else {
      torch::NoGradGuard guard;
      forward();
    }
    synchronize(q.device());
    return std::chrono::duration<double>(Clock::now() - start).count();
  }

  void release() override { q = k = v = bias = out = gradient = Tensor(); }

 private:
  const bool fused;
  bool causal = false, backward = false;
  Tensor q, k, v, bias, out, gradient;

  Tensor forward() {
    if (fused && causal) return at::scaled_dot_product_attention(q, k, v, {}, 0, true);
    if (fused) return at::scaled_dot_product_attention(q, k, v, bias);
    const Tensor scores = torch::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
    return torch::matmul(torch::softmax(scores + bias, -1), v);
  }
};

/// A Python process that answers one JSON line with another.
class PythonPeer final : public Peer {
 public:
  PythonPeer(std::string own, Patience patience) : name(std::move(own)), patience(std::move(patience)) {}
  /// Without an input the process ends by itself.
  ~PythonPeer() override {
    if (process) process->end(std::chrono::seconds(5));
  }

  std::string prepare(const Case &work, const ops::SampleInputs &, const Tensor &) override {
    if (failures >= 2) return lastFailure + "; twice, so it is not asked again";
    if (!process) {
      try {
        start();
      } catch (const std::runtime_error &error) {
        return failed(std::string(error.what()) + " (WEFT_PYTHON names another)").at("error");
      }
    }
    const json answer = ask({{"do", "prepare"},
                             {"peer", name},
                             {"variant", work.variant},
                             {"B", work.shape.B},
                             {"H", work.shape.H},
                             {"T", work.shape.T},
                             {"D", work.shape.D},
                             {"dtype", work.type},
                             {"backward", work.backward},
                             {"span", work.span > 0 ? work.span : work.shape.T / 2},
                             {"device", work.device},
                             {"threads", torch::get_num_threads()}});
    return answer.value("error", std::string());
  }
  double seconds() override {
    const json answer = ask({{"do", "run"}});
    if (answer.contains("error")) throw std::runtime_error(answer["error"].get<std::string>());
    return answer.at("seconds").get<double>();
  }
  void release() override {
    if (process) ask({{"do", "release"}});
  }

 private:
  const std::string name;
  const Patience patience;
  std::optional<Process> process;
  std::string unread;
  int failures = 0;
  std::string lastFailure;

  void start() {
    // The interpreter leaves the cores to the others while it waits.
    process.emplace(Command{{pythonProgram(), "-c", peersScript}, {{"OMP_WAIT_POLICY", "passive"}}},
                    Streams::Exchanged);
    unread.clear();
  }

  json failed(const std::string &why) {
    process.reset();
    ++failures;
    lastFailure = why;
    return {{"error", why}};
  }

  json ask(const json &question) {
    if (!process) return {{"error", lastFailure}};
    const std::string line = question.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    const std::string ended =
        "its Python process ended (" + pythonProgram() + " with torch is needed; WEFT_PYTHON names another)";
    if (!process->send(line)) return failed(ended);
    const auto start = Clock::now();
    size_t stop;
    while ((stop = unread.find('\n')) == std::string::npos) {
      if (patience.stop && patience.stop()) {
        process.reset();
        return {{"error", "stopped"}};
      }
      if (std::chrono::duration<double>(Clock::now() - start).count() > patience.seconds) {
        char text[64];
        std::snprintf(text, sizeof text, "no answer within %g s: its process was ended", patience.seconds);
        return failed(text);
      }
      if (process->receive(unread, std::chrono::milliseconds(50)) == Process::Received::End) return failed(ended);
    }
    const std::string answer = unread.substr(0, stop);
    unread.erase(0, stop + 1);
    json parsed = json::parse(answer, nullptr, false);
    return parsed.is_discarded() ? json{{"error", "unexpected answer: " + answer.substr(0, 200)}} : parsed;
  }
};

}  // namespace

std::unique_ptr<Peer> makePeer(const std::string &name, const Patience &patience) {
  if (name == "sdpa" || name == "math") return std::make_unique<TorchPeer>(name == "sdpa");
  if (name == "flex" || name == "triton") return std::make_unique<PythonPeer>(name, patience);
  throw std::runtime_error("expected peers out of sdpa, math, flex and triton, got '" + name + "'");
}

}  // namespace weft::bench
