#include "autotune/decode_probe.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "autotune/samples.h"
#include "autotune/turns.h"
#include "ops/decode.h"
#include "ops/decode_schedule.h"
#include "ops/devices.h"
#include "ops/execution.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"
#include "runtime/roof.h"

namespace weft::autotune {
namespace {

double wallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double seconds() {
  if (ops::threadCount() > 1) return wallSeconds();
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Mean seconds of as many runs as last some milliseconds, behind one that brings into the caches what stays there:
/// others have had their turns.
std::function<double()> timed(std::function<void()> run) {
  constexpr double least = 4e-3;
  constexpr int most = 4096;
  return [run = std::move(run), repeats = 0]() mutable {
    auto mean = [&](int count) {
      const double begin = seconds();
      for (int turn = 0; turn < count; ++turn) run();
      return (seconds() - begin) / count;
    };
    if (!repeats) {
      run();
      repeats = static_cast<int>(std::clamp(least / std::max(mean(1), 1e-9), 1.0, double{most}));
    }
    run();
    return mean(repeats);
  };
}

/// Reading so many bytes. Torch's sum: vectors, on all its threads.
std::function<double()> reading(double bytes) {
  const at::Tensor memory = at::ones({std::max<int64_t>(static_cast<int64_t>(bytes / 4), 1024)});
  return timed([memory] { memory.sum(); });
}

/// A call of decode on random tensors.
struct Call {
  std::string variant;
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors, whole;  ///< of the newest token, of as many queries as keys
  at::Tensor pages;
  int64_t length = 0;

  Call(const std::string &text, const DecodeShape &shape, bool allChosen) : variant(text), length(shape.length) {
    const auto own = findVariant(text);
    const ops::SampleInputs inputs = decodeInputs(*own, shape, shape.B, false);
    names = inputs.names;
    whole = inputs.tensors;
    for (size_t at = 0; at < own->inputs().size(); ++at) tensors.push_back(newest(own->inputs()[at], whole[at], shape));
    if (!allChosen || !own->selects()) return;
    const SelectionInfo::Round &last = own->selection().rounds.back();
    auto tiles = [&](int64_t tile) { return (shape.length + tile - 1) / tile; };
    names.push_back("selection");
    tensors.push_back(at::ones({shape.B, shape.H, tiles(last.tileQ), tiles(last.tileK)}, at::kBool));
  }

  void run() const {
    if (pages.defined()) ops::decodePaged(variant, names, tensors, pages, length);
    else ops::decode(variant, names, tensors);
  }

 private:
  at::Tensor newest(const InputInfo &input, const at::Tensor &tensor, const DecodeShape &shape) {
    if (shape.page > 0 && input.isRow && input.dims[2] == "S") return inPages(tensor, shape.page);
    if (input.isRow && input.isPooled) return tensor;
    at::Tensor last = tensor;
    for (size_t dim = 0; dim < input.dims.size(); ++dim)
      if (input.dims[dim] == "T") last = last.slice(static_cast<int64_t>(dim), shape.length - 1);
    return last.contiguous();
  }
  /// Rows [B, heads, S, width] in pages that lie in any order.
  at::Tensor inPages(const at::Tensor &rows, int64_t page) {
    const int64_t B = rows.size(0), count = (rows.size(2) + page - 1) / page;
    if (!pages.defined()) pages = at::randperm(B * count, at::kInt).view({B, count});
    const at::Tensor padded = at::constant_pad_nd(rows, {0, 0, 0, count * page - rows.size(2)});
    const at::Tensor inOrder = padded.view({B, rows.size(1), count, page, rows.size(3)}).transpose(1, 2).flatten(0, 1);
    return at::empty_like(inOrder).index_copy_(0, pages.flatten().to(at::kLong), inOrder);
  }
};

/// What comes before attending, alone: pools, choices, plans.
std::function<double()> choosing(const std::string &text, const DecodeShape &shape) {
  struct Kept {
    ops::SampleInputs inputs;
    std::unique_ptr<ops::KernelSet> set;
    std::unique_ptr<ops::Binding> call;
  };
  auto own = std::make_shared<Kept>();
  own->inputs = decodeInputs(*findVariant(text), shape, shape.B, false);
  const auto variant = ops::variantOfCall(text, own->inputs.names, own->inputs.tensors);
  const ops::CallShape sizes = ops::shapeOf(variant, own->inputs.names, own->inputs.tensors);
  const ElementType type = ops::elementType(sizes.type);
  own->set = std::make_unique<ops::KernelSet>(variant, type, sizes.headDims, Device{},
                                              ops::decodeSchedule(*variant, type, sizes.headDims, Device{}, shape.page,
                                                                  false));
  own->call = std::make_unique<ops::Binding>(*own->set, own->inputs.names, own->inputs.tensors);
  return timed([own] {
    CallForm form = own->call->form(Purpose::KeptTiles);
    form.lastTileOnly = true;
    ops::Execution(*own->call, form).run();
  });
}

std::function<double()> decoding(const std::string &variant, const DecodeShape &shape, bool allChosen) {
  auto call = std::make_shared<const Call>(variant, shape, allChosen);
  return timed([call] { call->run(); });
}

/// The least of the turns: what else runs on the machine only adds.
double least(const std::vector<double> &samples) { return *std::min_element(samples.begin(), samples.end()); }

/// Few keys, many, and more than caches hold, of a group of heads for each thread, and what follows of their times.
class Probe {
 public:
  Probe(const std::string &variant, DecodeShape shape, int units) : units(units) {
    constexpr int64_t fewTiles = 2, manyTiles = 10, sequences = 8;
    shape.B = 1;
    shape.H = units * (shape.H / shape.G);
    shape.G = units;
    shape.values.clear();
    shape.length = shape.span = 1;
    const int64_t tile = countDecode(variant, shape, Device{}).tileK;
    const auto own = findVariant(variant);
    chooses = own->selects();
    for (const int64_t tiles : {fewTiles, manyTiles}) {
      shape.length = shape.span = tiles * tile;
      counts.push_back(countDecode(variant, shape, Device{}));
      add("all", decoding(variant, shape, true));
      add("choosing", choosing(variant, shape));
      if (tiles == fewTiles) add("plain", decoding(variant, shape, false));
    }
    add("reading", reading(counts.back().headBytes));
    // A plan of as many chosen tiles would take more than reading them.
    if (chooses) return;
    // The same few keys in each of several sequences.
    shape.length = shape.span = fewTiles * tile;
    shape.B = sequences;
    counts.push_back(countDecode(variant, shape, Device{}));
    add("several", decoding(variant, shape, false));
    shape.B = 1;
    // As many keys as make these bytes.
    constexpr int64_t mostTiles = 4096;
    const double tileBytes = counts[1].headBytes / static_cast<double>(std::max<int64_t>(counts[1].keptTiles, 1));
    for (const double bytes : farBytes) {
      const auto tiles = static_cast<int64_t>(bytes / std::max(tileBytes, 1.0) / units);
      shape.length = shape.span = std::clamp(tiles, 2 * manyTiles, mostTiles) * tile;
      counts.push_back(countDecode(variant, shape, Device{}));
      add("far", decoding(variant, shape, true));
    }
    add("reading far", reading(counts.back().headBytes));
  }

  std::vector<Method> methods;

  DecodeKernel kernel(const std::vector<Method> &measured) const {
    auto time = [&](size_t at) { return least(measured.at(at).samples); };
    const double all = time(0), choosing = time(1), plain = time(2), allMany = time(3), choosingMany = time(4);
    auto each = [&](int64_t tiles) { return static_cast<double>(tiles) / units; };
    const DecodeCount &few = counts[0], &many = counts[1];
    DecodeKernel kernel;
    const double more = each(many.tiles - few.tiles);
    kernel.choosing = std::max(0.0, (choosingMany - choosing) / more);
    // Where all tiles are given none is chosen.
    const double kept = chooses ? more : each(many.keptTiles - few.keptTiles);
    if (kept > 0) kernel.tile = std::max(0.0, (allMany - all - (chooses ? 0 : kernel.choosing * more)) / kept);
    else kernel.tile = all / std::max(each(few.keptTiles), 1.0);
    auto tiles = [&](const DecodeCount &count) {
      return kernel.tile * each(count.keptTiles) + kernel.choosing * each(count.tiles);
    };
    if (!chooses) {
      const DecodeCount &several = counts[2];
      const double longer = time(6) - plain - (tiles(several) - tiles(few));
      kernel.program = std::max(0.0, longer / each(several.programs - few.programs));
    }
    kernel.call = std::max(0.0, plain - tiles(few) - kernel.program * each(few.programs));
    kernel.cached = many.headBytes / time(5);
    if (chooses) return kernel;
    // What is left of calls whose keys come from far. Of some picoseconds a byte no time would be told from none.
    constexpr double least = 1e-14, most = 1e-9;
    auto left = [&](const DecodeCount &count, double seconds) {
      return std::clamp((seconds - all - (tiles(count) - tiles(few))) / count.headBytes, least, most);
    };
    for (size_t at = 0; at < std::size(farBytes); ++at) {
      const DecodeCount &far = counts[3 + at];
      if (kernel.far.empty() || far.headBytes > kernel.far.back().first)
        kernel.far.emplace_back(far.headBytes, left(far, time(7 + at)));
    }
    kernel.far.insert(kernel.far.begin(), {many.headBytes, kernel.far.front().second / 100});
    const double read = time(7 + std::size(farBytes));
    kernel.farPlain = kernel.plainByte(counts.back().headBytes / read);
    return kernel;
  }
  double flopsOfTile() const {
    return counts[1].keptTiles ? counts[1].executedFlops / static_cast<double>(counts[1].keptTiles) : 0;
  }

 private:
  /// About what a core keeps to itself, twice that, and more than it keeps.
  static constexpr double farBytes[] = {2 << 20, 4 << 20, 32 << 20};

  const double units;
  bool chooses = false;
  std::vector<DecodeCount> counts;

  void add(const std::string &name, std::function<double()> run) { methods.push_back({name, std::move(run), {}, ""}); }
};

void measure(std::vector<Method> &methods, const std::function<bool()> &stop) {
  const Effort effort{.rounds = 9, .seconds = 0.3, .mostSeconds = 5, .precision = 0.02};
  takeTurns(methods, effort, wallSeconds, stop);
  for (const Method &method : methods)
    if (!method.error.empty()) throw std::runtime_error(method.error);
    else if (method.samples.empty()) throw std::runtime_error("stopped before anything was measured");
}

}  // namespace

DecodeMachine cpuMachine(const std::string &type) {
  DecodeMachine machine;
  const std::string identity = hostIdentity();  // and its features
  machine.name = identity.substr(0, identity.find(' '));
  machine.predicted = false;
  machine.units = ops::threadCount();
  if (const auto roof = arithmeticRoof(Device{}, ops::elementType(ops::scalarType(type)), machine.units))
    machine.peak = roof->rate;
  // A CPU's kernel copies or converts a tile before it multiplies: the one does not run beside the other.
  machine.overlaps = false;
  constexpr double usual = 1 << 20;
  const long own = sysconf(_SC_LEVEL2_CACHE_SIZE);
  machine.ownCache = own > 0 ? static_cast<double>(own) / 2 : usual / 2;
  return machine;
}

std::vector<std::pair<double, double>> measureBandwidth(const std::function<bool()> &stop) {
  std::vector<double> sizes;
  for (double bytes = 1 << 18; bytes <= 1 << 28; bytes *= 4) sizes.push_back(bytes);
  std::vector<Method> methods;
  for (const double bytes : sizes) methods.push_back({"reading", reading(bytes), {}, ""});
  measure(methods, stop);
  std::vector<std::pair<double, double>> bandwidth;
  for (size_t at = 0; at < sizes.size(); ++at)
    bandwidth.emplace_back(sizes[at], sizes[at] / least(methods[at].samples));
  return bandwidth;
}

DecodeProbe probeDecoding(const std::string &variant, const DecodeShape &shape, const DecodeMachine &machine,
                          const std::function<bool()> &stop) {
  at::NoGradGuard guard;
  Probe probe(variant, shape, machine.units);
  measure(probe.methods, stop);
  const DecodeKernel kernel = probe.kernel(probe.methods);
  const double rate = kernel.tile > 0 ? probe.flopsOfTile() * machine.units / kernel.tile : 0;
  return {kernel, machine.peak > 0 ? rate / machine.peak : 0};
}

DecodeCheck checkDecoding(const std::string &variant, const DecodeShape &shape, DecodeMachine machine,
                          const std::function<bool()> &stop) {
  at::NoGradGuard guard;
  DecodeCheck check;
  check.count = countDecode(variant, shape, Device{});
  Probe probe(variant, shape, machine.units);
  const double bytes = check.count.keyBytes + check.count.choosingBytes;
  std::vector<Method> methods = std::move(probe.methods);
  methods.push_back({"decoding", decoding(variant, shape, false), {}, ""});
  methods.push_back({"reading", reading(bytes), {}, ""});
  measure(methods, stop);
  const std::vector<double> &samples = methods[methods.size() - 2].samples;
  check.measured = least(samples);
  check.uncertainty = uncertainty(samples);
  check.bandwidth = bytes / least(methods.back().samples);
  machine.bandwidth = {{bytes, check.bandwidth}};
  check.kernel = probe.kernel(methods);
  check.predicted = secondsOf(check.count, machine, check.kernel, 1).all;
  return check;
}

}  // namespace weft::autotune
