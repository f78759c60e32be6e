#include "autotune/call_timeline.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <thread>

#include "autotune/model.h"
#include "autotune/space.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"

namespace weft::autotune {
namespace {

Device standIn(const timeline::Chip &chip) { return parseDevice("ptx-emulator:" + timeline::architecture(chip)); }

/// Of the CPU, which cuts what is kept as the GPU would.
Schedule hostSchedule(const Schedule &schedule) {
  Schedule host;
  host.tileQ = schedule.tileQ;
  host.tileK = schedule.tileK;
  return host;
}

}  // namespace

CallTimeline::CallTimeline(const Problem &problem, const timeline::Chip &chip)
    : chip(chip),
      backward(problem.backward),
      variant(findVariant(problem.variant)),
      shape(ops::shapeOf(variant, problem.names, problem.tensors)),
      device(standIn(chip)),
      set(variant, ops::elementType(shape.type), shape.headDims, device, untuned()),
      hostSet(variant, ops::elementType(shape.type), shape.headDims, Device{}, hostSchedule(set.schedule)),
      call(set, problem.names, problem.tensors),
      host(hostSet, problem.names, problem.tensors),
      kept(host) {}

Schedule CallTimeline::untuned() const {
  return ops::untunedSchedule(*variant, ops::elementType(shape.type), shape.headDims, device, backward);
}

CallForm CallTimeline::form(const Schedule &schedule) const {
  CallForm form = call.form(backward ? Purpose::Backward : Purpose::Forward);
  const bool twoPass = variant->hasTwoPassBackward(call.G != call.H) && schedule.form != BackwardForm::Fused;
  form.fused = !backward || !twoPass;
  return form;
}

std::vector<std::string> CallTimeline::kernels(const Schedule &schedule) const {
  std::vector<std::string> names;
  for (const CallPlan::Step &step : planCall(*variant, set.type, schedule, form(schedule)).steps)
    names.push_back(step.kernel);
  return names;
}

/// Turns of the loops of a kernel that multiplies nothing.
int CallTimeline::otherTurns(const std::string &kernel, const KernelImage &image) const {
  // delta: a row's columns, of which ptxas makes 16 a turn and a rest.
  const int64_t width = shape.headDims.count("E") ? shape.headDims.at("E") : 64;
  if (kernel == "backward_delta") return static_cast<int>(std::max<int64_t>(1, width / 16 - 1));
  // A band is found by bisection; what looks at tiles looks at those of the other side.
  if (image.grid == Grid::Head) return static_cast<int>(std::ceil(std::log2(static_cast<double>(call.T + call.S) + 1)));
  const bool byKeys = image.grid == Grid::KeyTile || image.grid == Grid::HeadKeyTile;
  return static_cast<int>(
      std::min<int64_t>((byKeys ? call.T : call.S) / std::max(1, byKeys ? image.tileQ : image.tileK) + 1, 10000));
}

timeline::Load CallTimeline::load(const std::string &kernel, const KernelImage &image, const CallPlan &plan,
                                  const Schedule &schedule) const {
  timeline::Load load;
  const bool byKeys = image.grid == Grid::KeyTile || image.grid == Grid::HeadKeyTile;
  const bool groups = image.grid == Grid::KeyTile || image.grid == Grid::Group;
  const int64_t rows = call.B * (groups ? call.G : call.H), shared = groups ? call.H / std::max<int64_t>(call.G, 1) : 1;
  // Of each row of tiles: a head, or the heads of a group together.
  std::vector<std::vector<timeline::Turns>> turns(rows);
  for (int64_t head = 0; head < call.B * call.H; ++head) {
    std::vector<timeline::Turns> &row = turns[head / std::max<int64_t>(shared, 1)];
    for (size_t at = 0; at < kept.setCount(); ++at) {
      if (byKeys && at < variant->keySets().size() && variant->keySets()[at].dim != image.keyDim) continue;
      const auto own = kept.turns(head, std::max(image.tileQ, 16), std::max(image.tileK, 16), at, byKeys);
      row.resize(std::max(row.size(), own.size()));
      for (size_t tile = 0; tile < own.size(); ++tile) {
        row[tile].full += own[tile].full;
        row[tile].partial += own[tile].masked;
      }
    }
  }
  const bool tiles = image.grid != Grid::Group && image.grid != Grid::Head;
  std::vector<timeline::Turns> programs;
  if (!tiles) {
    for (const auto &row : turns) {
      timeline::Turns all;
      for (const timeline::Turns &one : row) {
        all.full += one.full;
        all.partial += one.partial;
      }
      programs.push_back(all);
    }
  } else {
    // Tiles of queries run from the last to the first.
    const int64_t count = turns.empty() ? 0 : static_cast<int64_t>(turns[0].size());
    auto at = [&](int64_t row, int64_t tile) { return turns[row][byKeys ? tile : count - 1 - tile]; };
    const bool headsInner = schedule.order == Order::HeadsInner;
    for (int64_t outer = 0; outer < (headsInner ? count : rows); ++outer)
      for (int64_t inner = 0; inner < (headsInner ? rows : count); ++inner)
        programs.push_back(headsInner ? at(inner, outer) : at(outer, inner));
  }
  // Several programs of a block are its warps or its threads: the block is done with the longest.
  const size_t each = std::max(1, image.programsPerBlock);
  for (size_t begin = 0; begin < programs.size(); begin += each) {
    timeline::Turns most;
    for (size_t program = begin; program < std::min(programs.size(), begin + each); ++program)
      if (programs[program].full + programs[program].partial >= most.full + most.partial) most = programs[program];
    load.blocks.push_back(most);
  }
  load.otherTurns = otherTurns(kernel, image);
  const std::vector<int64_t> dims = dimsOf(plan, call.dims);
  for (const ArgumentSlot &slot : image.slots)
    if (slot.kind == ArgumentSlot::Kind::Pointer)
      if (const int buffer = plan.buffer(slot.name); buffer >= 0)
        load.bytes += static_cast<double>(roomOf(plan.buffers[buffer], dims.data()));
  return load;
}

timeline::Timeline CallTimeline::predict(const std::string &kernel, const Schedule &schedule) const {
  CompileRequest request;
  request.variant = variant;
  request.kernel = kernel;
  request.dims = shape.headDims;
  request.type = set.type;
  request.schedule = schedule;
  request.target = targetOf(device);
  const CompileResult result = compile(request);
  if (!result.error.empty()) throw std::runtime_error(result.error);
  const CallPlan plan = planCall(*variant, set.type, schedule, form(schedule));
  return timeline::predict(timeline::kernelOf(result.image, chip), load(kernel, result.image, plan, schedule), chip);
}

std::vector<timeline::Timeline> CallTimeline::predict(const Schedule &schedule) const {
  std::vector<timeline::Timeline> all;
  for (const std::string &kernel : kernels(schedule)) all.push_back(predict(kernel, schedule));
  return all;
}

std::vector<Prediction> rank(const CallTimeline &call, bool backward, size_t refined,
                             const std::function<void(size_t, size_t)> &progress) {
  constexpr double clockOfNone = 1;  // the model counts with a GPU's own
  Model model(call.binding(), call.pattern(), backward, clockOfNone);
  std::vector<Prediction> all;
  for (const Schedule &schedule : searchSpace(call.binding(), backward))
    all.push_back({schedule, model.predict(schedule), false, ""});
  const Schedule first = call.untuned();
  std::stable_sort(all.begin(), all.end(), [&](const Prediction &a, const Prediction &b) {
    if ((a.schedule == first) != (b.schedule == first)) return a.schedule == first;
    return a.seconds < b.seconds;
  });
  const size_t total = std::min(all.size(), refined + 1);
  std::atomic<size_t> next{0}, done{0};
  auto work = [&] {
    for (size_t at; (at = next++) < total;) {
      try {
        double seconds = 0;
        for (const timeline::Timeline &kernel : call.predict(all[at].schedule)) seconds += kernel.seconds;
        all[at].seconds = seconds;
        all[at].refined = true;
      } catch (const std::exception &error) {
        all[at].error = error.what();
      }
      ++done;
    }
  };
  std::vector<std::thread> workers;
  for (unsigned count = std::clamp<unsigned>(std::thread::hardware_concurrency(), 1, 64); count > 0; --count)
    workers.emplace_back(work);
  while (done < total) {
    if (progress) progress(done, total);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (std::thread &worker : workers) worker.join();
  std::stable_sort(all.begin(), all.end(), [](const Prediction &a, const Prediction &b) {
    return a.refined != b.refined ? a.refined : a.seconds < b.seconds;
  });
  return all;
}

}  // namespace weft::autotune
