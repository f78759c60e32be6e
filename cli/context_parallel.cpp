// Times attention, forward and backward, over a sequence that the processes of torchrun share, or that one has alone.
// Rank 0 prints a line of JSON for each case. `./dev bench context` runs it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <torch/utils.h>
#include <nlohmann/json.hpp>

#include "autotune/samples.h"
#include "models/processes.h"
#include "ops/attention.h"

namespace {

using torch::Tensor;
using weft::AttentionInputs;

constexpr int64_t heads = 4, headDim = 64, reach = 1024;

struct Case {
  std::string name, variant, input;  ///< an input of each head, or of all, that says how far a query sees
};

AttentionInputs inputsOf(const Case &own, int64_t tokens, at::ScalarType type) {
  AttentionInputs call{{"q", "k", "v"}, {}};
  for (int at = 0; at < 3; ++at)
    call.tensors.push_back(torch::randn({1, tokens, heads, headDim}).to(type).transpose(1, 2).requires_grad_());
  if (own.input.empty()) return call;
  call.names.push_back(own.input);
  call.tensors.push_back(own.input == "window" ? torch::tensor(reach, torch::kInt64)
                                               : torch::full({heads}, static_cast<double>(reach)).requires_grad_());
  return call;
}

double secondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int count, char **arguments) {
  try {
    const weft::Launch launch = weft::readLaunch();
    weft::Processes processes(launch, torch::kCPU);
    const auto share = processes.alone() ? nullptr : processes.share(processes.size());
    torch::manual_seed(1 + processes.rank());
    const at::ScalarType type = count > 1 && std::string(arguments[1]) == "bf16" ? at::kBFloat16 : at::kFloat;
    for (int at = 2; at < count; ++at)
      for (const Case &own : std::vector<Case>{{"dense", "causal", ""},
                                               {"sliding window", "sliding_window", "window"},
                                               {"adaptive span", "adaptive_span", "span"}}) {
        const int64_t tokens = std::strtoll(arguments[at], nullptr, 10);
        const AttentionInputs call = inputsOf(own, tokens / processes.size(), type);
        std::vector<double> times[2];
        int64_t bytes[2] = {0, 0};
        const int repeats = tokens > 32768 && own.input.empty() ? 3 : 7;
        for (int turn = 0; turn < repeats; ++turn) {
          for (const Tensor &tensor : call.tensors) tensor.mutable_grad() = Tensor();
          Tensor o;
          for (const int pass : {0, 1}) {
            processes.wait();
            const int64_t before = share ? share->bytesSent : 0;
            const auto start = std::chrono::steady_clock::now();
            if (pass == 0)
              o = share ? share->attend(own.variant, call)
                        : weft::ops::attention(own.variant, call.names, call.tensors);
            else o.backward(torch::ones_like(o));
            // The slowest process says how long it took.
            const int microseconds = processes.wait(static_cast<int>(1e6 * std::min(secondsSince(start), 2000.0)));
            if (turn > 0) times[pass].push_back(1e-6 * microseconds);
            bytes[pass] = (share ? share->bytesSent : 0) - before;
          }
        }
        const std::vector<double> sent = processes.sum({static_cast<double>(bytes[0]), static_cast<double>(bytes[1])});
        if (processes.first())
          std::printf("%s\n", nlohmann::ordered_json{{"variant", own.name},
                                                     {"tokens", tokens},
                                                     {"processes", processes.size()},
                                                     {"threads", torch::get_num_threads()},
                                                     {"forward_ms", 1e3 * weft::autotune::median(times[0])},
                                                     {"backward_ms", 1e3 * weft::autotune::median(times[1])},
                                                     {"forward_bytes", sent[0]},
                                                     {"backward_bytes", sent[1]}}
                                  .dump()
                                  .c_str());
        std::fflush(stdout);
      }
    processes.wait();
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%scontext_parallel: %s\n", weft::rankPrefix().c_str(), error.what());
    return 1;
  }
}
