#include "models/process_group.h"

#include <algorithm>
#include <thread>

#include <torch/utils.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "models/interrupt.h"
#include "models/nccl_backend.h"
#include "models/shared_gradients.h"

namespace weft {
namespace {

using torch::Tensor;
using Group = c10d::ProcessGroup;

/// For a process that the others wait for at the start.
constexpr std::chrono::minutes startPatience{10};

std::string firstLine(const std::exception &error) {
  const auto *own = dynamic_cast<const c10::Error *>(&error);
  const std::string text = own ? own->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

/// Of "[file:line] Connection closed by peer [address]. This is typically ..." the middle.
std::string cause(const std::exception &error) {
  std::string text = firstLine(error);
  if (text.starts_with('[')) text.erase(0, std::min(text.size(), text.find("] ") + 2));
  return text.substr(0, text.find(". "));
}

/// Runs what needs the other processes.
template <typename Operation>
void together(const Launch &launch, Operation operation) {
  try {
    operation();
  } catch (const std::exception &error) {
    throw LostProcess("another of the " + std::to_string(launch.size) +
                      " processes has ended, or cannot be reached any more (" + cause(error) + ")");
  }
}

c10::intrusive_ptr<c10d::Store> reachStore(const Launch &launch) {
  c10d::TCPStoreOptions options;
  options.port = launch.port;
  options.isServer = launch.rank == 0 && !launch.agentStore;
  options.multiTenant = true;
  options.waitWorkers = false;
  try {
    // A restart meets what the processes before it left.
    return c10::make_intrusive<c10d::PrefixStore>("weft/attempt_" + std::to_string(launch.restarts),
                                                  c10::make_intrusive<c10d::TCPStore>(launch.address, options));
  } catch (const std::exception &error) {
    throw std::runtime_error("cannot " + std::string(options.isServer ? "open" : "reach") +
                             " the store of torchrun at " + launch.address + ":" + std::to_string(launch.port) +
                             " (MASTER_ADDR, MASTER_PORT): " + firstLine(error));
  }
}

/// Until all have come. Signals end this; in the constructors of torch's groups they would not.
void awaitAll(c10d::Store &store, const Launch &launch) {
  const auto end = std::chrono::steady_clock::now() + startPatience;
  for (int64_t here = store.add("here", 1); here < launch.size; here = store.add("here", 0)) {
    const std::string count = std::to_string(here) + " of " + std::to_string(launch.size) + " processes were there";
    if (interrupted()) throw std::runtime_error("interrupted before the run began: " + count);
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error("after " + std::to_string(startPatience.count()) + " minutes " + count +
                               "; each machine needs its torchrun, with the same --nnodes");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

c10::intrusive_ptr<Group> makeGroup(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size,
                                    torch::Device device) {
  const c10::intrusive_ptr<c10d::Backend> gloo =
      c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size,
                                                  c10d::ProcessGroupGloo::Options::create_default(usualPatience));
  auto group = c10::make_intrusive<Group>(store, rank, size);
  group->setDefaultBackend(Group::BackendType::GLOO);
  group->setBackend(torch::kCPU, Group::BackendType::GLOO, gloo);
  if (device.is_cuda()) {
    const auto nccl = makeNcclBackend(store, rank, size);
    group->setBackend(torch::kCUDA, nccl ? Group::BackendType::NCCL : Group::BackendType::GLOO, nccl ? nccl : gloo);
  }
  return group;
}

/// By the name that this torch has for it.
template <class AnyGroup>
c10::intrusive_ptr<c10d::Work> allToAll(AnyGroup &group, Tensor to, Tensor from, std::vector<int64_t> toCounts,
                                        std::vector<int64_t> fromCounts) {
  if constexpr (requires { group.all_to_all_single(to, from, toCounts, fromCounts); })
    return group.all_to_all_single(to, from, toCounts, fromCounts);
  else return group.alltoall_base(to, from, toCounts, fromCounts);
}

class PendingWork : public Pending {
 public:
  PendingWork(const Launch &launch, c10::intrusive_ptr<c10d::Work> work) : launch(launch), work(std::move(work)) {}
  void wait() override {
    together(launch, [&] { work->wait(); });
  }

 private:
  Launch launch;
  c10::intrusive_ptr<c10d::Work> work;
};

class TorchGroup : public ProcessGroup {
 public:
  TorchGroup(const Launch &launch, const c10::intrusive_ptr<c10d::Store> &store, torch::Device device,
             const c10::intrusive_ptr<Group> &group)
      : launch(launch), store(store), device(device), group(group), gradients(group) {}

  void sum(Tensor tensor, std::chrono::minutes patience) override { reduce(tensor, c10d::ReduceOp::SUM, patience); }
  void maximum(Tensor tensor, std::chrono::minutes patience) override { reduce(tensor, c10d::ReduceOp::MAX, patience); }
  void broadcast(const std::vector<Tensor> &tensors) override {
    together(launch, [&] { c10d::broadcast_coalesced(group, tensors, c10d::kDefaultBucketBytesCap, 0); });
  }
  void backward(const Tensor &loss, const std::vector<Tensor> &parameters) override {
    try {
      gradients.backward(loss, parameters);
    } catch (const std::exception &error) {
      // What the pass itself fails at is none of the others' doing; theirs comes from these libraries' own files.
      const std::string text = error.what();
      if (text.find("gloo") == std::string::npos && text.find("NCCL") == std::string::npos) throw;
      together(launch, [&] { throw; });
    }
  }

  void average(const std::vector<Tensor> &parameters) override {
    const torch::NoGradGuard guard;
    std::vector<Tensor> gradients, flat;
    for (const Tensor &parameter : parameters)
      if (parameter.grad().defined()) gradients.push_back(parameter.grad());
    for (const Tensor &gradient : gradients) flat.push_back(gradient.reshape({-1}));
    Tensor all = torch::cat(flat) / static_cast<double>(launch.size);
    reduce(all, c10d::ReduceOp::SUM, usualPatience);
    int64_t first = 0;
    for (Tensor &gradient : gradients) {
      gradient.copy_(all.slice(0, first, first + gradient.numel()).view(gradient.sizes()));
      first += gradient.numel();
    }
  }

  std::unique_ptr<Pending> exchange(const Tensor &sent, const std::vector<int64_t> &counts, const Tensor &received,
                                    const std::vector<int64_t> &receivedCounts) override {
    c10::intrusive_ptr<c10d::Work> work;
    together(launch, [&] { work = allToAll(*group, received, sent, receivedCounts, counts); });
    return std::make_unique<PendingWork>(launch, work);
  }

  std::unique_ptr<ProcessGroup> part(int64_t number, int64_t rank, int64_t size) override {
    Launch own = launch;
    own.rank = rank;
    own.size = size;
    const std::string name = "of_" + std::to_string(size) + "_number_" + std::to_string(number);
    const auto place = c10::make_intrusive<c10d::PrefixStore>(name, store);
    c10::intrusive_ptr<Group> made;
    together(launch, [&] { made = makeGroup(place, static_cast<int>(rank), static_cast<int>(size), device); });
    return std::make_unique<TorchGroup>(own, place, device, made);
  }

 private:
  void reduce(Tensor &tensor, c10d::ReduceOp::RedOpType operation, std::chrono::minutes patience) {
    together(launch, [&] {
      std::vector<Tensor> tensors{tensor};
      c10d::AllreduceOptions options;
      options.reduceOp = operation;
      options.timeout = patience;
      group->allreduce(tensors, options)->wait();
    });
  }

  Launch launch;
  c10::intrusive_ptr<c10d::Store> store;
  torch::Device device;
  c10::intrusive_ptr<Group> group;
  SharedGradients gradients;
};

}  // namespace

std::unique_ptr<ProcessGroup> joinGroup(const Launch &launch, torch::Device device) {
  const auto store = reachStore(launch);
  c10::intrusive_ptr<Group> group;
  awaitAll(*store, launch);
  together(launch,
           [&] { group = makeGroup(store, static_cast<int>(launch.rank), static_cast<int>(launch.size), device); });
  return std::make_unique<TorchGroup>(launch, store, device, group);
}

}  // namespace weft
