#include "tests/unit/call.h"

#include <algorithm>
#include <filesystem>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "compiler/origin.h"
#include "runtime/call.h"
#include "runtime/ptx_emulator/numbers.h"

namespace weft::testing {

std::vector<std::string> libraryVariants() {
  std::vector<std::string> names;
  for (const auto &file : std::filesystem::directory_iterator(WEFT_VARIANTS)) names.push_back(file.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

std::shared_ptr<const Variant> variantOf(const std::string &nameOrText) {
  std::string text = nameOrText;
  if (text.find('{') == std::string::npos) {
    std::ifstream stream(std::string(WEFT_VARIANTS) + "/" + nameOrText + ".weft");
    std::stringstream all;
    all << stream.rdbuf();
    text = all.str();
  }
  ParseResult result = parse(text, nameOrText.substr(0, 40));
  if (result.variants.size() != 1) throw std::runtime_error(render(result.diagnostics));
  return result.variants[0];
}

namespace {

/// An array of one element type, 64-byte aligned as torch's are.
struct Buffer {
  ElementType type = ElementType::F32;
  int64_t count = 0;
  std::shared_ptr<void> memory;

  Buffer() = default;
  Buffer(ElementType type, int64_t count)
      : type(type), count(count), memory(std::aligned_alloc(64, (bytes() + 63) / 64 * 64 + 64), std::free) {
    std::memset(memory.get(), 0, bytes());
  }
  int64_t bytes() const { return std::max<int64_t>(count, 1) * bytesOf(type); }
  template <class T>
  T *as() const {
    return static_cast<T *>(memory.get());
  }

  void set(int64_t at, double value) {
    switch (type) {
      case ElementType::F32: as<float>()[at] = static_cast<float>(value); break;
      case ElementType::BF16: as<uint16_t>()[at] = static_cast<uint16_t>(ptx::toBf16(static_cast<float>(value))); break;
      case ElementType::F16: as<uint16_t>()[at] = static_cast<uint16_t>(ptx::toF16(static_cast<float>(value))); break;
      case ElementType::F64: as<double>()[at] = value; break;
      case ElementType::I32: as<int32_t>()[at] = static_cast<int32_t>(value); break;
      case ElementType::I64: as<int64_t>()[at] = static_cast<int64_t>(value); break;
      case ElementType::Bool: as<uint8_t>()[at] = value != 0; break;
    }
  }
  double get(int64_t at) const {
    switch (type) {
      case ElementType::BF16: return ptx::fromBf16(as<uint16_t>()[at]);
      case ElementType::F16: return ptx::fromF16(as<uint16_t>()[at]);
      case ElementType::F64: return as<double>()[at];
      case ElementType::I32: return as<int32_t>()[at];
      case ElementType::I64: return static_cast<double>(as<int64_t>()[at]);
      case ElementType::Bool: return as<uint8_t>()[at];
      default: return as<float>()[at];
    }
  }
  std::vector<float> floats() const {
    std::vector<float> values(count);
    for (int64_t at = 0; at < count; ++at) values[at] = static_cast<float>(get(at));
    return values;
  }
};

}  // namespace

double rounded(ElementType type, double value) {
  Buffer one(type, 1);
  one.set(0, value);
  return one.get(0);
}

namespace {

/// The memory of a call: buffers by name, those of a forward pass for the backward pass too.
class Arrays {
 public:
  Arrays(const Variant &variant, const std::map<std::string, reference::Array> &inputs, ElementType type)
      : variant(variant), inputs(inputs) {
    for (const std::string &name : dimNames(variant)) dims[name] = 0;
    for (const InputInfo &input : variant.inputs()) {
      const auto &shape = inputs.at(input.name).shape;
      for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = shape[d];
      if (input.isRow) request.dims[input.dims.back()] = shape.back();
      grouped |= std::ranges::count(input.dims, "G") > 0;
    }
    if (!grouped) dims["G"] = dims["H"];
    if (hasOrigin(variant)) {
      const auto given = inputs.find("origin");
      const std::vector<double> whole{0, 0, static_cast<double>(dims["T"]), static_cast<double>(dims["S"])};
      for (size_t at = 0; at < originDims.size(); ++at)
        dims[originDims[at]] = static_cast<int64_t>((given == inputs.end() ? whole : given->second.values).at(at));
    }
    request.type = type;
  }

  /// Finds memory for what the plan has beside its inputs, and runs it.
  void run(const CallPlan &plan, const CallOptions &options, EmulatorReport &report) {
    own = allDims(plan);
    std::vector<Memory> memory(plan.buffers.size());
    for (size_t at = 0; at < plan.buffers.size(); ++at) {
      const CallPlan::Buffer &buffer = plan.buffers[at];
      if (buffer.owner == CallPlan::Owner::Input) fill(buffer, at);
      else buffers[buffer.name] = make(buffer);
      memory[at].data = buffers.at(buffer.name).memory.get();
    }
    const Call call(plan, request, options.device);
    LaunchContext context;
    context.threads = options.threads;
    context.report = &report;
    call.run(own.data(), memory.data(), context);
    outside |= buffers.at("status").as<int>()[0] != 0;
  }

  std::vector<int64_t> shape(const CallPlan &plan, int buffer) const {
    return shapeOf(plan.buffers[buffer], own.data());
  }
  Buffer &of(const CallPlan &plan, int buffer) { return buffers.at(plan.buffers[buffer].name); }
  /// What an input beside the variant's is, from `value`(index).
  template <class Value>
  void give(const std::string &name, ElementType type, int64_t count, Value value) {
    Buffer &buffer = buffers[name] = Buffer(type, count);
    for (int64_t at = 0; at < count; ++at) buffer.set(at, value(at));
  }
  int64_t dim(const std::string &name) const { return dims.at(name); }

  CompileRequest request;
  bool grouped = false, outside = false;

 private:
  const Variant &variant;
  const std::map<std::string, reference::Array> &inputs;
  std::map<std::string, int64_t> dims;
  std::map<std::string, Buffer> buffers;
  std::vector<int64_t> own;  ///< the dims of the plan that ran last

  std::vector<int64_t> allDims(const CallPlan &plan) const {
    std::vector<int64_t> given;
    for (size_t at = 0; at < plan.dimsGiven(); ++at) given.push_back(dims.at(plan.dims[at].name));
    return dimsOf(plan, given);
  }
  /// What no step has written shows.
  Buffer make(const CallPlan::Buffer &buffer) const {
    Buffer made(buffer.type, roomOf(buffer, own.data()) / bytesOf(buffer.type));
    made.count = 1;
    for (const int64_t size : shapeOf(buffer, own.data())) made.count *= size;
    if (!buffer.zeroed && made.count > 0) std::memset(made.memory.get(), 0xFF, made.bytes());
    return made;
  }
  void fill(const CallPlan::Buffer &buffer, size_t at) {
    if (buffers.count(buffer.name)) return;
    Buffer &made = buffers[buffer.name] = make(buffer);
    const std::vector<double> &values = inputs.at(variant.inputs()[at].name).values;
    for (int64_t element = 0; element < made.count; ++element) made.set(element, values[element]);
  }
};

/// 1 for each tile that is kept, 2 where it is full.
std::vector<std::vector<int>> tilesOf(const CallPlan &plan, Arrays &arrays, const Schedule &schedule, int64_t extent) {
  const int64_t B = arrays.dim("B"), H = arrays.dim("H"), T = arrays.dim("T"), tileQ = schedule.tileQ,
                tileK = schedule.tileK, rows = (T + tileQ - 1) / tileQ, columns = (extent + tileK - 1) / tileK;
  std::vector<std::vector<int>> tiles(B * H, std::vector<int>(rows * columns, 0));
  const CallPlan::KeptTiles &kept = plan.kept[0];
  for (int64_t head = 0; head < B * H; ++head)
    for (int64_t qt = 0; qt < rows; ++qt) {
      if (kept.band < 0) {
        const int *counts = arrays.of(plan, kept.counts).as<int>(), *entries = arrays.of(plan, kept.entries).as<int>();
        for (int64_t row = head * rows + qt, at = row * columns; at < row * columns + counts[row]; ++at)
          tiles[head][qt * columns + entries[at] / 2] = 1 + entries[at] % 2;
        continue;
      }
      const int *band = arrays.of(plan, kept.band).as<int>() + head * 4;
      for (int64_t kt = 0; kt < columns; ++kt) {
        const int64_t i0 = qt * tileQ, i1 = std::min(i0 + tileQ, T) - 1, j0 = kt * tileK,
                      j1 = std::min(j0 + tileK, extent) - 1;
        if (i1 - j0 < band[0] || i0 - j1 > band[1] || band[0] > band[1]) continue;
        tiles[head][qt * columns + kt] = i0 - j1 >= band[2] && i1 - j0 <= band[3] ? 2 : 1;
      }
    }
  return tiles;
}

/// A gradient in the shape of its input, from its partial sums.
std::vector<double> summed(const CallPlan::Gradient &gradient, const std::vector<float> &partial,
                           const std::vector<int64_t> &shape, size_t elements, int64_t headsOfGroup) {
  if (gradient.axes.empty()) return {partial.begin(), partial.end()};
  using Axis = CallPlan::Gradient::Axis;
  std::vector<double> sums(elements, 0.0);
  std::vector<int64_t> at(shape.size(), 0);
  for (const float value : partial) {
    int64_t index = 0;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (gradient.axes[axis] == Axis::Kept) index = index * shape[axis] + at[axis];
      if (gradient.axes[axis] == Axis::Grouped) index = index * (shape[axis] / headsOfGroup) + at[axis] / headsOfGroup;
    }
    sums[index] += value;
    for (size_t axis = shape.size(); axis-- > 0 && ++at[axis] == shape[axis];) at[axis] = 0;
  }
  return sums;
}

}  // namespace

Outcome call(const std::shared_ptr<const Variant> &variant, const std::map<std::string, reference::Array> &inputs,
             const std::vector<double> &cotangent, const CallOptions &options) {
  Arrays arrays(*variant, inputs, options.type);
  Schedule schedule = options.schedule;
  schedule.tileQ = options.tileQ;
  schedule.tileK = options.tileK;
  schedule = fitted(schedule, *variant);
  arrays.request.variant = variant;
  arrays.request.schedule = schedule;
  arrays.request.target = options.target;
  arrays.give("seed", ElementType::I64, 2, [](int64_t) { return 7; });
  auto planned = [&](CallForm form) {
    form.seedGiven = true;
    form.wideSums = options.device.kind == Device::Kind::Cpu;
    return planCall(*variant, options.type, schedule, form);
  };
  Outcome outcome;
  const CallPlan forward = planned({.purpose = options.plansOnly ? Purpose::KeptTiles : Purpose::Forward});
  arrays.run(forward, options, outcome.report);
  outcome.outside = arrays.outside;
  const KeyListInfo &lists = variant->keyList();
  if (variant->rows() == TileRows::Queries)
    outcome.tiles = tilesOf(forward, arrays, schedule, arrays.dim(lists.input < 0 ? "S" : lists.dim));
  if (forward.selection >= 0) {
    const Buffer &map = arrays.of(forward, forward.selection);
    outcome.selection.assign(map.as<uint8_t>(), map.as<uint8_t>() + map.count);
  }
  if (options.plansOnly) return outcome;
  outcome.o = arrays.of(forward, forward.o).floats();
  outcome.lse = arrays.of(forward, forward.rows[0]).floats();
  if (cotangent.empty()) return outcome;

  BackwardForm form = options.form;
  if (!variant->hasTwoPassBackward(arrays.dim("G") != arrays.dim("H"))) {
    if (form == BackwardForm::TwoPass) form = BackwardForm::Fused;
    if (form == BackwardForm::FusedKeys) form = BackwardForm::FusedQueries;
  }
  const CallPlan backward =
      planned({.purpose = Purpose::Backward, .backward = form, .selectionGiven = forward.selection >= 0});
  arrays.give("do", options.type, static_cast<int64_t>(cotangent.size()), [&](int64_t at) { return cotangent[at]; });
  arrays.run(backward, options, outcome.report);
  outcome.outside = arrays.outside;
  for (const CallPlan::Gradient &gradient : backward.gradients) {
    const std::string &name = variant->inputs()[gradient.input].name;
    outcome.gradients[name] =
        summed(gradient, arrays.of(backward, gradient.buffer).floats(), arrays.shape(backward, gradient.buffer),
               inputs.at(name).values.size(),
               gradient.groups < 0
                   ? 1
                   : arrays.dim("H") / std::max<int64_t>(arrays.dim(backward.dims[gradient.groups].name), 1));
  }
  return outcome;
}

}  // namespace weft::testing
