#include "models/processes.h"

#include <cstring>
#include <stdexcept>

#include <torch/utils.h>

#include "models/interrupt.h"
#include "runtime/sha256.h"

namespace weft {

using torch::Tensor;

/// Of long work in one process.
constexpr std::chrono::minutes day{24 * 60};

Processes::Processes(const Launch &launch, torch::Device device) : launch(launch) {
  if (launch.size > 1) group = joinGroup(launch, device);
}

Rows Processes::part(int64_t batch, int64_t sharing) const {
  if (size() % sharing != 0)
    throw std::runtime_error("train.context_parallel = " + std::to_string(sharing) + " does not divide the " +
                             std::to_string(size()) + (alone() ? " process" : " processes") +
                             " of this run; torchrun --nproc-per-node starts so many");
  const int64_t parts = size() / sharing;
  if (batch % parts != 0) {
    const int64_t below = batch / parts * parts;
    throw std::runtime_error("train.batch = " + std::to_string(batch) + " texts cannot be shared equally by " +
                             std::to_string(parts) + (sharing > 1 ? " groups of processes" : " processes") +
                             "; a batch of " + (below > 0 ? std::to_string(below) + " or " : "") +
                             std::to_string(below + parts) + " can (train.batch is of all processes together)");
  }
  const int64_t count = batch / parts;
  return {rank() / sharing * count, count};
}

c10::intrusive_ptr<SequenceShare> Processes::share(int64_t count) {
  const int64_t own = rank() % count;
  return c10::make_intrusive<SequenceShare>(group->part(rank() / count, own, count), own, count);
}

uint64_t Processes::seed(uint64_t common) const {
  return common + static_cast<uint64_t>(rank()) * 0x9e3779b97f4a7c15ull;
}

std::string Processes::fromFirst(const std::function<std::string()> &make) {
  if (!group) return make();
  std::string bytes;
  if (first()) bytes = make();
  Tensor count = torch::tensor(static_cast<int64_t>(bytes.size()), torch::kInt64);
  group->broadcast({count});
  bytes.resize(static_cast<size_t>(count.item<int64_t>()));
  if (!bytes.empty())
    group->broadcast({torch::from_blob(bytes.data(), {static_cast<int64_t>(bytes.size())}, torch::kUInt8)});
  return bytes;
}

void Processes::copyFromFirst(const std::vector<Tensor> &tensors) {
  torch::NoGradGuard guard;
  if (!group) return;
  std::vector<Tensor> plain;
  for (const Tensor &tensor : tensors) plain.push_back(tensor.detach());
  group->broadcast(plain);
}

void Processes::demandSame(const std::string &what, std::string_view text) {
  if (!group) return;
  const std::string own = sha256(text);
  const bool same = fromFirst([&] { return own; }) == own;
  if (sum({same ? 0.0 : 1.0})[0] == 0) return;
  throw std::runtime_error(same ? "another process has another " + what + " than rank 0"
                                : "rank " + std::to_string(rank()) + " has another " + what + " than rank 0");
}

void Processes::demandSameText(const Tensor &bytes) { demandSame("text", bytesOf(bytes)); }

std::vector<double> Processes::sum(std::vector<double> values) {
  if (!group) return values;
  values.push_back(weft::interrupted() ? 1 : 0);
  Tensor all = torch::tensor(values, torch::kFloat64);
  group->sum(all, usualPatience);
  std::memcpy(values.data(), all.data_ptr<double>(), values.size() * sizeof(double));
  const bool signalled = values.back() > 0;
  values.pop_back();
  if (signalled) knownCode = wait(weft::interruptCode());
  return values;
}

int Processes::wait(int code) {
  if (!group) return code;
  Tensor all = torch::tensor(code, torch::kInt32);
  group->maximum(all, day);
  return all.item<int>();
}

void Processes::backward(const Tensor &loss, const std::vector<Tensor> &parameters, Gradients gradients) {
  if (group && gradients == Gradients::Means) return group->backward(loss, parameters);
  loss.backward();
  if (group && gradients == Gradients::MeansAfterwards) group->average(parameters);
}

int Processes::interruptCode() const { return group ? knownCode : weft::interruptCode(); }

bool Processes::askInterrupted() {
  sum({});
  return interrupted();
}

}  // namespace weft
