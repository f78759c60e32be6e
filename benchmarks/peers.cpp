#include "benchmarks/peers.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include <nlohmann/json.hpp>

#include <c10/core/impl/VirtualGuardImpl.h>

#include "benchmarks/scripts.h"
#include "ops/attention.h"
#include "runtime/environment.h"

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
    const double bytes = static_cast<double>(shape.H * shape.T * shape.T) * (work.type == "f32" ? 4 : 2) * (fused ? 1 : 4) * (work.backward ? 2 : 1);
    causal = work.variant == "causal";
    if ((!causal || !fused) && bytes > 4e9) return "T x S in memory: " + std::to_string(static_cast<int>(bytes / 1e9)) + " GB";
    for (const std::string &name : inputs.names)
      if (name == "u" || name == "w" || name == "r") return "its mask comes of the content: T x S numbers anew in each call";
    q = named(inputs, "q")->detach().requires_grad_();
    k = named(inputs, "k")->detach().requires_grad_();
    v = named(inputs, "v")->detach().requires_grad_();
    backward = work.backward;
    torch::NoGradGuard guard;
    if (!causal || !fused) bias = ops::maskShares(work.variant, inputs.names, inputs.tensors).to(torch::kFloat).log().unsqueeze(0).to(q.scalar_type());
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
  explicit PythonPeer(std::string own) : name(std::move(own)) {}
  ~PythonPeer() override { end(); }

  std::string prepare(const Case &work, const ops::SampleInputs &, const Tensor &) override {
    if (pid <= 0) start();
    const json answer = ask({{"do", "prepare"}, {"peer", name}, {"variant", work.variant}, {"B", work.shape.B}, {"H", work.shape.H},
                             {"T", work.shape.T}, {"D", work.shape.D}, {"dtype", work.type}, {"backward", work.backward},
                             {"span", work.span > 0 ? work.span : work.shape.T / 2}, {"device", work.device},
                             {"threads", torch::get_num_threads()}});
    return answer.value("error", std::string());
  }
  double seconds() override {
    const json answer = ask({{"do", "run"}});
    if (answer.contains("error")) throw std::runtime_error(answer["error"].get<std::string>());
    return answer.at("seconds").get<double>();
  }
  void release() override {
    if (pid > 0) ask({{"do", "release"}});
  }

 private:
  std::string name;
  pid_t pid = -1;
  FILE *to = nullptr, *from = nullptr;

  void start() {
    std::array<int, 2> in{}, out{};
    if (pipe(in.data()) != 0 || pipe(out.data()) != 0) throw std::runtime_error("no pipe for the Python peer");
    signal(SIGPIPE, SIG_IGN);
    pid = fork();
    if (pid < 0) throw std::runtime_error("cannot start a Python peer");
    if (pid == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      for (int file : {in[0], in[1], out[0], out[1]}) close(file);
      setenv("OMP_WAIT_POLICY", "passive", 1);  // leaves the cores to the others while it waits
      const std::string python = pythonProgram();
      execlp(python.c_str(), python.c_str(), "-c", peersScript, static_cast<char *>(nullptr));
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    to = fdopen(in[1], "w");
    from = fdopen(out[0], "r");
  }

  json ask(const json &question) {
    const std::string line = question.dump() + "\n";
    std::fputs(line.c_str(), to);
    std::fflush(to);
    std::string answer;
    for (int c; (c = std::fgetc(from)) != EOF && c != '\n';) answer += static_cast<char>(c);
    if (answer.empty()) {
      end();
      return {{"error", "its Python process ended (" + pythonProgram() + " with torch is needed; WEFT_PYTHON names another)"}};
    }
    json parsed = json::parse(answer, nullptr, false);
    return parsed.is_discarded() ? json{{"error", "unexpected answer: " + answer.substr(0, 200)}} : parsed;
  }

  void end() {
    if (pid <= 0) return;
    std::fclose(to);
    std::fclose(from);
    waitpid(pid, nullptr, 0);
    pid = -1;
  }
};

}  // namespace

std::unique_ptr<Peer> makePeer(const std::string &name) {
  if (name == "sdpa" || name == "math") return std::make_unique<TorchPeer>(name == "sdpa");
  if (name == "flex" || name == "triton") return std::make_unique<PythonPeer>(name);
  throw std::runtime_error("expected peers out of sdpa, math, flex and triton, got '" + name + "'");
}

}  // namespace weft::bench
