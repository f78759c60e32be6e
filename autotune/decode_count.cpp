#include "autotune/decode_count.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

#include "compiler/grouped.h"
#include "ops/binding.h"
#include "ops/decode_schedule.h"
#include "ops/devices.h"
#include "ops/grouped_heads.h"
#include "ops/kept_pattern.h"
#include "ops/schedules.h"
#include "ops/variant_library.h"
#include "runtime/kernel_cache.h"

namespace weft::autotune {
namespace {

bool has(const std::vector<std::string> &list, const std::string &name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

/// Counts one call of one sequence.
class Counter {
 public:
  /// `together`: heads in one tile, those of a group or 1; `pieces`: of its keys, a program each.
  Counter(const ops::Binding &call, const DecodeShape &shape, const Schedule &schedule, const Device &device,
          int64_t together, int64_t pieces)
      : call(call), variant(*call.set.variant), shape(shape), pattern(call, true), together(together), pieces(pieces) {
    CallForm form = call.form(Purpose::Forward);
    form.lastTileOnly = true;
    form.paged = shape.page > 0;
    plan = planCall(variant, call.set.type, schedule, form);
    count.tileQ = schedule.tileQ;
    count.tileK = schedule.tileK;
    onGpu = device.kind != Device::Kind::Cpu;
    const int64_t tiles = (together + schedule.tileQ - 1) / schedule.tileQ;
    rows = schedule.blockRows == 1 ? together : tiles * schedule.tileQ;
    count.programs = shape.B * call.H / together * tiles * pieces;
  }

  DecodeCount all() {
    count.kernels = static_cast<int>(plan.steps.size()) + (pieces > 1 ? ops::kernelsOfPieces : 0);
    for (size_t set = 0; set < pattern.setCount(); ++set) attend(set);
    for (const InputInfo &input : variant.inputs())
      if (input.isRow && input.querySide && reads("forward", input.name))
        count.queryBytes += sequences(shape.B) * heads(input) * width(input) * rowBytes();
    count.queryBytes += sequences(shape.B * call.H) * width(variant.inputs()[variant.keySets()[0].values]) * rowBytes();
    if (shape.page > 0) count.inputBytes += sequences(shape.B * ((shape.length + shape.page - 1) / shape.page)) * 4;
    for (const CallPlan::Step &step : plan.steps)
      if (step.kernel != "forward") choose(step.kernel);
    for (const CallPlan::Buffer &buffer : plan.buffers)
      count.clears += onGpu && buffer.zeroed && std::ranges::any_of(plan.steps, [&](const CallPlan::Step &step) {
                        return reads(step.kernel, buffer.name);
                      });
    return count;
  }

 private:
  const ops::Binding &call;
  const Variant &variant;
  const DecodeShape &shape;
  const ops::KeptPattern pattern;
  const int64_t together, pieces;
  CallPlan plan;
  DecodeCount count;
  bool onGpu = false;
  int64_t rows = 1;                                   ///< of a tile that are multiplied
  std::map<std::string, std::set<std::string>> read;  ///< of each kernel: the tensors that it is given

  static double sequences(int64_t number) { return static_cast<double>(number); }
  double rowBytes() const { return static_cast<double>(bytesOf(call.set.type)); }
  double width(const InputInfo &input) const { return static_cast<double>(call.set.headDims.at(input.dims.back())); }
  double sizeOf(const std::string &dim) const {
    const std::vector<std::string> names = dimNames(variant);
    return static_cast<double>(call.dims[std::find(names.begin(), names.end(), dim) - names.begin()]);
  }
  /// How many heads an input has: H, or the groups it is of; 1 where all share it.
  double heads(const InputInfo &input) const {
    if (has(input.dims, "H")) return static_cast<double>(call.H);
    return input.groupAxis() >= 0 ? sizeOf(input.dims[input.groupAxis()]) : 1;
  }
  /// All sequences have their own, or share it.
  double copies(const InputInfo &input) const { return has(input.dims, "B") ? sequences(shape.B) : 1; }
  double elementBytes(const InputInfo &input) const {
    return input.isRow ? rowBytes() : input.isBool ? 1 : static_cast<double>(bytesOf(ElementType::F32));
  }

  bool reads(const std::string &kernel, const std::string &tensor) {
    auto [slot, added] = read.try_emplace(kernel);
    if (added) {
      CompileRequest request;
      request.variant = call.set.variant;
      request.kernel = kernel;
      request.dims = call.set.headDims;
      request.type = call.set.type;
      request.schedule = call.set.schedule;
      for (const ArgumentSlot &own : loadKernel(request, call.set.device)->image().slots)
        if (own.kind == ArgumentSlot::Kind::Pointer) slot->second.insert(own.name);
    }
    return slot->second.contains(tensor);
  }

  /// Tiles of the piece that has most of them.
  int64_t mostOfPiece(const std::vector<int64_t> &tiles) const {
    if (pieces == 1) return static_cast<int64_t>(tiles.size());
    std::map<int64_t, int64_t> counts;
    for (const int64_t tile : tiles) ++counts[tile * count.tileK / keysOfPiece];
    int64_t most = 0;
    for (const auto &[piece, own] : counts) most = std::max(most, own);
    return most;
  }
  /// Keys in tiles of a set, the last of which may be short.
  double keysIn(const std::vector<int64_t> &tiles, size_t set) const {
    double keys = 0;
    for (const int64_t tile : tiles)
      keys += static_cast<double>(std::min<int64_t>(count.tileK, pattern.keysOf(set) - tile * count.tileK));
    return keys;
  }
  /// The same of the tiles that any of the heads keeps that share an input, summed over those that do.
  double sharedKeys(size_t set, double groups) const {
    const auto number = static_cast<int64_t>(groups);
    double keys = 0;
    for (int64_t group = 0; group < number; ++group) keys += keysIn(keptBy(group, call.H / number, set), set);
    return keys;
  }
  /// Tiles that any of a group's heads keeps.
  std::vector<int64_t> keptBy(int64_t group, int64_t heads, size_t set) const {
    std::set<int64_t> tiles;
    for (int64_t head = group * heads; head < (group + 1) * heads; ++head)
      for (const int64_t tile : pattern.lastRow(head, set)) tiles.insert(tile);
    return {tiles.begin(), tiles.end()};
  }

  /// True for rows of the keys of a set, and for other inputs that have an entry for each of them: those with the set's
  /// dim and, of the keys of v, tables and lists.
  bool isOfKeys(const InputInfo &input, size_t set) const {
    const std::string &dim = variant.keySets()[set].dim;
    if (input.isRow || has(input.dims, dim)) return has(input.dims, dim);
    const bool other = std::ranges::any_of(input.dims, [&](const std::string &own) {
      return own != "B" && own != "H" && own != "T" && !isGroupDim(own) && !isOtherSet(own);
    });
    return set == 0 && other;
  }
  bool isOtherSet(const std::string &dim) const {
    return std::ranges::any_of(variant.keySets(), [&](const KeySetInfo &keys) { return keys.dim == dim; });
  }

  void attend(size_t set) {
    const double seen = sharedKeys(set, static_cast<double>(call.H));  // by each head alone
    double keys = 0, widths = 0, whole = 0;
    for (int64_t group = 0; group < call.H / together; ++group) {
      const std::vector<int64_t> tiles = keptBy(group, together, set);
      keys += keysIn(tiles, set);
      whole += static_cast<double>(tiles.size()) * count.tileK;
      count.keptTiles += shape.B * static_cast<int64_t>(tiles.size());
      if (set == 0) count.longest = std::max(count.longest, mostOfPiece(tiles));
    }
    count.tiles += shape.B * (call.H / together) * ((pattern.keysOf(set) + count.tileK - 1) / count.tileK);
    for (const InputInfo &input : variant.inputs()) {
      if (!isOfKeys(input, set) || !reads("forward", input.name)) continue;
      const double entries = copies(input) * sharedKeys(set, heads(input));
      if (input.isRow) {
        widths += width(input);
        count.keyBytes += entries * width(input) * rowBytes();
        count.headBytes += copies(input) * keys * width(input) * rowBytes();
      } else {
        count.inputBytes += entries * elementBytes(input);
      }
    }
    if (set == 0 && variant.selectsKeys()) count.inputBytes += sequences(shape.B) * seen * 4;  // the lists
    count.flops += sequences(shape.B) * seen * 2 * widths;
    count.executedFlops += sequences(shape.B) * whole * static_cast<double>(rows) * 2 * widths;
  }

  /// A kernel that pools, chooses or plans, for the last row of tiles.
  void choose(const std::string &kernel) {
    const double S = static_cast<double>(call.S);
    const SelectionInfo &selection = variant.selection();
    for (size_t at = 0; at < selection.pools.size(); ++at) {
      const SelectionInfo::Pool &pool = selection.pools[at];
      const InputInfo &input = variant.inputs()[pool.input];
      const bool keys = input.dims[2] != "T";
      const double rows = keys ? sizeOf(input.dims[2]) : std::min<double>(pool.tile, S),
                   means = keys ? std::ceil(rows / pool.tile) : 1;
      const double own = sequences(shape.B) * heads(input) * width(input);
      if (kernel == "pool_" + std::to_string(at)) {
        count.choosingBytes += own * (rows * rowBytes() + means * 4);  // read, and left
        count.choosingFlops += own * rows;
      } else if (kernel.starts_with("select_") && reads(kernel, pool.buffer)) {
        // Each head reads the means for itself.
        const double shared = sequences(shape.B * call.H) * width(input) * means;
        count.choosingBytes += shared * 4;
        if (keys) count.choosingFlops += shared * 2;
      }
    }
    for (size_t at = 0; at < selection.rounds.size(); ++at) {
      const SelectionInfo::Round &round = selection.rounds[at];
      const double map = sequences(shape.B * call.H) * std::ceil(S / round.tileK);
      if (kernel == "select_" + std::to_string(at) || (!kernel.starts_with("pool_") && reads(kernel, round.buffer)))
        count.choosingBytes += map;
    }
    if (kernel.starts_with("pool_")) return;
    // Inputs with an entry a key, or a tile of keys, that decide what is kept.
    for (const InputInfo &input : variant.inputs()) {
      if (input.isRow || !reads(kernel, input.name)) continue;
      for (size_t set = 0; set < variant.keySets().size(); ++set)
        if (has(input.dims, variant.keySets()[set].dim))
          count.choosingBytes +=
              copies(input) * heads(input) * sizeOf(variant.keySets()[set].dim) * elementBytes(input);
    }
  }
};

/// A GPU's tiles on the CPU, which finds what is kept.
Schedule hostSchedule(const Schedule &schedule) {
  Schedule host;
  host.tileQ = schedule.tileQ;
  host.tileK = schedule.tileK;
  host.order = Order::HeadsInner;
  return host;
}

std::string settable(const Variant &variant) {
  std::string names;
  for (const InputInfo &input : variant.inputs())
    if (!input.isRow) names += (names.empty() ? "" : ", ") + input.name;
  return names.empty() ? "none" : names;
}

}  // namespace

ops::SampleInputs decodeInputs(const Variant &variant, const DecodeShape &shape, int64_t sequences, bool shapesAlone) {
  // What is no row is drawn whole: of T x S numbers nothing would be left to count.
  constexpr double most = 4e9;
  for (const InputInfo &input : variant.inputs()) {
    double numbers = 1;
    for (const std::string &dim : input.dims)
      numbers *= static_cast<double>(dim == "H"                 ? shape.H
                                     : isGroupDim(dim)          ? shape.G
                                     : dim == "T" || dim == "S" ? shape.length
                                     : dim == "N"               ? 2 * shape.length
                                     : dim == "M"               ? (shape.length + 63) / 64
                                     : dim == "D" || dim == "E" ? shape.D
                                                                : 1);
    if (numbers * 4 > most && !(input.isRow && shapesAlone && !input.isPooled)) {
      const std::string size = std::to_string(static_cast<int64_t>(std::ceil(numbers * 4 / 1e9)));
      throw std::runtime_error("input '" + input.name + "' of '" + variant.name() + "' would have " + size + " GB at " +
                               std::to_string(shape.length) + " tokens; expected up to 4: ask for a shorter length");
    }
  }
  ops::SampleShape sizes{sequences, shape.H, shape.length, shape.D, shape.G};
  ops::SampleInputs inputs =
      ops::sampleInputs(variant, sizes, ops::scalarType(shape.type), at::kCPU, shape.span, shapesAlone);
  for (const auto &[name, value] : shape.values) {
    const auto input =
        std::ranges::find_if(variant.inputs(), [&](const InputInfo &own) { return own.name == name && !own.isRow; });
    if (input == variant.inputs().end())
      throw std::runtime_error("no input '" + name + "' of '" + variant.name() +
                               "' takes one value; those that do: " + settable(variant));
    at::Tensor &tensor = inputs.tensors[input - variant.inputs().begin()];
    tensor = at::full(tensor.sizes(), value, tensor.options().requires_grad(false));
  }
  for (at::Tensor &tensor : inputs.tensors) tensor = tensor.detach();
  return inputs;
}

DecodeCount countDecode(const std::string &text, const DecodeShape &shape, const Device &device) {
  at::NoGradGuard guard;
  torch::manual_seed(0);
  const auto inputs = decodeInputs(*findVariant(text), shape, 1, true);
  const auto variant = ops::variantOfCall(text, inputs.names, inputs.tensors);
  ops::demandSharedKeys(*variant, shape.page > 0 ? "decode_paged" : "decode");
  const ops::CallShape sizes = ops::shapeOf(variant, inputs.names, inputs.tensors);
  const ElementType type = ops::elementType(sizes.type);
  const bool alone = ops::standsAlone(*variant);
  const int64_t together = alone && canBeGrouped(*variant) ? shape.H / shape.G : 1;
  const bool few = alone && ops::fewQueries(together, device);
  const int64_t pieces = alone ? ops::piecesOfKeys(*variant, shape.length, shape.G, device) : 1;
  const Schedule schedule = ops::decodeSchedule(*variant, type, sizes.headDims, device, shape.page, few);
  const bool onHost = device.kind == Device::Kind::Cpu;
  ops::KernelSet set(variant, type, sizes.headDims, Device{}, onHost ? schedule : hostSchedule(schedule));
  const ops::Binding call(set, inputs.names, inputs.tensors);
  return Counter(call, shape, schedule, device, together, pieces).all();
}

}  // namespace weft::autotune
