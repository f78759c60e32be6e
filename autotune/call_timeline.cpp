#include "autotune/call_timeline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <thread>

#include "autotune/model.h"
#include "autotune/samples.h"
#include "autotune/timeline/chip.h"

namespace weft::autotune {

CallForm CallTimeline::form(const Schedule &schedule) const {
  CallForm form = call.form(backward ? Purpose::Backward : Purpose::Forward);
  if (backward) form.backward = ops::backwardForm(call, schedule.form);
  return form;
}

std::vector<std::string> CallTimeline::kernels(const Schedule &schedule) const {
  std::vector<std::string> names;
  for (const CallPlan::Step &step : planCall(*call.set.variant, call.set.type, schedule, form(schedule)).steps)
    names.push_back(step.kernel);
  return names;
}

/// Turns of the loops of a kernel that multiplies nothing.
int CallTimeline::otherTurns(const std::string &kernel, const KernelImage &image) const {
  // delta: a row's columns, of which ptxas makes 16 a turn and a rest.
  const auto width = call.set.headDims.find("E");
  if (kernel == "backward_delta" && width != call.set.headDims.end())
    return static_cast<int>(std::max<int64_t>(1, width->second / 16 - 1));
  // A band is found by bisection; what looks at tiles looks at those of the other side.
  if (image.grid == Grid::Head) return static_cast<int>(std::ceil(std::log2(static_cast<double>(call.T + call.S) + 1)));
  const bool byKeys = image.grid == Grid::KeyTile || image.grid == Grid::HeadKeyTile;
  const int64_t others = byKeys ? call.T : pattern.keys(), tile = std::max(1, byKeys ? image.tileQ : image.tileK);
  constexpr int64_t most = 10000;
  return static_cast<int>(std::min(others / tile + 1, most));
}

/// Of each program, in the order of ProgramGrid.
std::vector<timeline::Turns> CallTimeline::programs(const KernelImage &image, const Schedule &schedule) const {
  const bool byKeys = image.grid == Grid::KeyTile || image.grid == Grid::HeadKeyTile;
  const bool groups = image.grid == Grid::KeyTile || image.grid == Grid::Group;
  const int64_t rows = call.B * (groups ? call.G : call.H);
  const int64_t shared = groups ? std::max<int64_t>(call.H / std::max<int64_t>(call.G, 1), 1) : 1;
  constexpr int leastTile = 16;
  // Of each row of tiles: those of a head, or of the heads of a group together.
  std::vector<std::vector<timeline::Turns>> turns(rows);
  const auto &sets = call.set.variant->keySets();
  for (int64_t head = 0; head < call.B * call.H && head / shared < rows; ++head) {
    if (!pattern.leads(head, std::max(image.tileQ, 1))) continue;
    for (size_t at = 0; at < pattern.setCount(); ++at) {
      if (byKeys && at < sets.size() && sets[at].dim != image.keyDim) continue;
      const auto own =
          pattern.turns(head, std::max(image.tileQ, leastTile), std::max(image.tileK, leastTile), at, byKeys);
      std::vector<timeline::Turns> &row = turns[head / shared];
      row.resize(std::max(row.size(), own.size()));
      for (size_t tile = 0; tile < own.size(); ++tile) {
        row[tile].full += own[tile].full;
        row[tile].partial += own[tile].masked;
      }
    }
  }
  std::erase_if(turns, [](const auto &row) { return row.empty(); });
  std::vector<timeline::Turns> programs;
  if (image.grid == Grid::Group || image.grid == Grid::Head) {
    for (const auto &row : turns) {
      timeline::Turns all;
      for (const timeline::Turns &one : row) {
        all.full += one.full;
        all.partial += one.partial;
      }
      programs.push_back(all);
    }
    return programs;
  }
  // Tiles of queries run from the last to the first.
  const int64_t lines = static_cast<int64_t>(turns.size());
  const int64_t count = turns.empty() ? 0 : static_cast<int64_t>(turns[0].size());
  auto at = [&](int64_t row, int64_t tile) { return turns[row][byKeys ? tile : count - 1 - tile]; };
  const bool headsInner = schedule.order == Order::HeadsInner;
  for (int64_t outer = 0; outer < (headsInner ? count : lines); ++outer)
    for (int64_t inner = 0; inner < (headsInner ? lines : count); ++inner)
      programs.push_back(headsInner ? at(inner, outer) : at(outer, inner));
  return programs;
}

timeline::Load CallTimeline::load(const std::string &kernel, const KernelImage &image, const Schedule &schedule) const {
  timeline::Load load;
  // Several programs of a block are its warps or its threads: the block is done with the longest.
  const std::vector<timeline::Turns> all = programs(image, schedule);
  const size_t each = std::max(1, image.programsPerBlock);
  for (size_t begin = 0; begin < all.size(); begin += each) {
    timeline::Turns most;
    for (size_t program = begin; program < std::min(all.size(), begin + each); ++program)
      if (all[program].full + all[program].partial >= most.full + most.partial) most = all[program];
    load.blocks.push_back(most);
  }
  load.otherTurns = otherTurns(kernel, image);
  const CallPlan plan = planCall(*call.set.variant, call.set.type, schedule, form(schedule));
  const std::vector<int64_t> dims = dimsOf(plan, call.dims);
  for (const ArgumentSlot &slot : image.slots) {
    const int buffer = slot.kind == ArgumentSlot::Kind::Pointer ? plan.buffer(slot.name) : -1;
    if (buffer >= 0) load.bytes += static_cast<double>(roomOf(plan.buffers[buffer], dims.data()));
  }
  return load;
}

timeline::Timeline CallTimeline::predict(const std::string &kernel, const Schedule &schedule) const {
  CompileRequest request;
  request.variant = call.set.variant;
  request.kernel = kernel;
  request.dims = call.set.headDims;
  request.type = call.set.type;
  request.schedule = schedule;
  request.target = targetOf(call.set.device);
  const CompileResult result = compile(request);
  if (!result.error.empty()) throw std::runtime_error(result.error);
  return timeline::predict(timeline::kernelOf(result.image, architectureOf(call.set.device)),
                           load(kernel, result.image, schedule), chip);
}

/// Of what is done to gradients beside the kernels: those that are added up begin as zeros; f32 becomes the call's
/// type.
double CallTimeline::secondsOfSums(const Schedule &schedule) const {
  const CallPlan plan = planCall(*call.set.variant, call.set.type, schedule, form(schedule));
  const std::vector<int64_t> dims = dimsOf(plan, call.dims);
  double bytes = 0;
  for (const CallPlan::Gradient &gradient : plan.gradients) {
    const CallPlan::Buffer &own = plan.buffers[gradient.buffer];
    const double room = static_cast<double>(roomOf(own, dims.data()));
    if (own.zeroed) bytes += room;
    if (gradient.axes.empty() && own.type != call.set.type)
      bytes += room * (1 + static_cast<double>(bytesOf(call.set.type)) / static_cast<double>(bytesOf(own.type)));
  }
  return bytes / (chip.gigabytes * 1e9);
}

double CallTimeline::seconds(const Schedule &schedule) const {
  double sum = secondsOfSums(schedule);
  for (const std::string &kernel : kernels(schedule)) sum += predict(kernel, schedule).seconds;
  return sum;
}

size_t predictByCode(const CallTimeline &call, std::vector<TuningPoint> &points, size_t count,
                     const std::function<void(size_t, size_t)> &progress, const std::function<bool()> &stop) {
  const size_t total = std::min(points.size(), count);
  std::vector<double> seconds(total, 0);
  std::atomic<size_t> next{0}, done{0};
  auto work = [&] {
    for (size_t at; (at = next++) < total; ++done) {
      if (stop && stop()) continue;
      try {
        seconds[at] = call.seconds(points[at].schedule);
      } catch (const std::exception &error) {
        points[at].note = error.what();
      }
    }
  };
  std::vector<std::thread> workers;
  constexpr unsigned most = 64;
  for (unsigned left = std::clamp(std::thread::hardware_concurrency(), 1u, most); left > 0; --left)
    workers.emplace_back(work);
  while (done < total) {
    if (progress) progress(done, total);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (std::thread &worker : workers) worker.join();
  std::vector<double> ratios;
  for (size_t at = 0; at < total; ++at)
    if (seconds[at] > 0 && points[at].predicted > 0) ratios.push_back(seconds[at] / points[at].predicted);
  if (ratios.empty()) return 0;
  const double scale = median(ratios);
  for (size_t at = 0; at < points.size(); ++at)
    points[at].predicted = at < total && seconds[at] > 0 ? seconds[at] : scale * points[at].predicted;
  sortByPrediction(points);
  return ratios.size();
}

}  // namespace weft::autotune
