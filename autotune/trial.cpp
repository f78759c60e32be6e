#include "autotune/trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "ops/devices.h"
#include "ops/passes.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"

namespace weft::autotune {

using Clock = std::chrono::steady_clock;

static std::shared_ptr<const Variant> variantOf(const Problem &problem) {
  return ops::variantOfCall(problem.variant, problem.names, problem.tensors);
}

Trial::Trial(const Problem &problem, const Schedule &schedule)
    : Trial(problem, schedule, ops::shapeOf(variantOf(problem), problem.names, problem.tensors)) {}

Trial::Trial(const Problem &problem, const Schedule &schedule, const ops::CallShape &shape)
    : problem(problem),
      set(variantOf(problem), ops::elementType(shape.type), shape.headDims, ops::deviceOf(problem.tensors), schedule) {
  form =
      ops::Binding(set, problem.names, problem.tensors).form(problem.backward ? Purpose::Backward : Purpose::Forward);
}

void Trial::compile() { set.call(form); }

std::vector<at::Tensor> Trial::run(const std::optional<Saved> &saved) {
  const ops::Binding call(set, problem.names, problem.tensors);
  if (saved) return ops::runBackward(call, saved->o, saved->rows, saved->dO, {});
  auto [o, rows] = ops::runForward(call);
  return {o, rows};
}

double Trial::seconds(const std::optional<Saved> &saved, bool flush) {
  const at::Device device = problem.tensors[0].device();
  if (device.is_cuda()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    if (!repeats) run(saved);
    repeats = 1;
    if (flush) at::zeros({64 << 20}, problem.tensors[0].options().dtype(at::kInt).requires_grad(false));
    c10::Event start(device.type(), c10::EventFlag::BACKEND_DEFAULT),
        end(device.type(), c10::EventFlag::BACKEND_DEFAULT);
    start.record(guard.getStream(device));
    run(saved);
    end.record(guard.getStream(device));
    end.synchronize();
    return start.elapsedTime(end) * 1e-3;
  }
  auto timed = [&](int count) {
    const auto begin = Clock::now();
    for (int turn = 0; turn < count; ++turn) run(saved);
    return std::chrono::duration<double>(Clock::now() - begin).count() / count;
  };
  if (!repeats) {
    run(saved);
    repeats = std::clamp(static_cast<int>(3e-3 / timed(1)), 1, 64);
  }
  return timed(repeats);
}

double clockGhz() {
#if defined(__x86_64__)
  // A 64-bit multiplication waits three cycles for the one before it.
  constexpr int count = 300000;
  double best = HUGE_VAL;
  for (int turn = 0; turn < 3; ++turn) {
    uint64_t value = 3;
    const auto begin = Clock::now();
    for (int step = 0; step < count; ++step) __asm__ volatile("imul %0, %0" : "+r"(value));
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return 3.0 * count / best * 1e-9;
#else
  return 0;
#endif
}

}  // namespace weft::autotune
