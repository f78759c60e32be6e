#include "tests/unit/call.h"

#include <algorithm>
#include <filesystem>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "runtime/kernel_cache.h"
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
      case ElementType::I32: as<int32_t>()[at] = static_cast<int32_t>(value); break;
      case ElementType::Bool: as<uint8_t>()[at] = value != 0; break;
    }
  }
  double get(int64_t at) const {
    switch (type) {
      case ElementType::BF16: return ptx::fromBf16(as<uint16_t>()[at]);
      case ElementType::F16: return ptx::fromF16(as<uint16_t>()[at]);
      case ElementType::I32: return as<int32_t>()[at];
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

Outcome call(const std::shared_ptr<const Variant> &variant, const std::map<std::string, reference::Array> &inputs,
             const std::vector<double> &cotangent, const CallOptions &wanted) {
  CallOptions options = wanted;
  {
    Schedule schedule = wanted.schedule;
    schedule.tileQ = wanted.tileQ;
    schedule.tileK = wanted.tileK;
    options.schedule = fitted(schedule, *variant);
    options.tileQ = options.schedule.tileQ;
    options.tileK = options.schedule.tileK;
  }
  std::map<std::string, int64_t> dims, headDims;
  std::map<std::string, Buffer> buffers;
  std::map<std::string, std::vector<int64_t>> strides;
  auto contiguous = [](const std::vector<int64_t> &shape) {
    std::vector<int64_t> result(shape.size(), 1);
    for (int at = static_cast<int>(shape.size()) - 2; at >= 0; --at) result[at] = result[at + 1] * shape[at + 1];
    return result;
  };
  auto make = [&](const std::string &name, ElementType type, int64_t count) -> Buffer & {
    return buffers[name] = Buffer(type, count);
  };
  for (const InputInfo &input : variant->inputs()) {
    const reference::Array &array = inputs.at(input.name);
    for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = array.shape[d];
    if (input.isRow) headDims[input.dims.back()] = array.shape.back();
    strides[input.name] = strides["d" + input.name] = contiguous(array.shape);
    const ElementType type = input.isInt    ? ElementType::I32
                             : input.isBool ? ElementType::Bool
                             : input.isRow  ? options.type
                                            : ElementType::F32;
    Buffer &own = make(input.name, type, static_cast<int64_t>(array.values.size()));
    for (int64_t at = 0; at < own.count; ++at) own.set(at, array.values[at]);
  }
  if (!dims.count("G")) dims["G"] = dims["H"];
  const int64_t B = dims["B"], H = dims["H"], G = dims["G"], T = dims["T"], S = dims["S"];
  const int64_t E = inputs.at("v").shape[3];
  const int64_t queryTiles = (T + options.tileQ - 1) / options.tileQ,
                keyTiles = ((variant->keyList().input < 0 ? S : dims[variant->keyList().dim]) + options.tileK - 1) /
                           options.tileK;
  strides["o"] = strides["do"] = contiguous({B, H, T, E});
  make("o", options.type, B * H * T * E);
  for (const std::string &rows : variant->keptRows()) make(rows, ElementType::F32, B * H * T);
  make("status", ElementType::I32, 1);
  make("seed", ElementType::I32, 4);  // two words of 64 bits
  for (int word : {0, 1}) buffers["seed"].as<int64_t>()[word] = 7;
  Outcome outcome;

  auto tiles = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
  auto run = [&](const std::string &kernel) {
    CompileRequest request;
    request.variant = variant;
    request.kernel = kernel;
    request.dims = headDims;
    request.schedule = options.schedule;
    request.type = options.type;
    request.target = options.target;
    auto loaded = loadKernel(request, options.device);
    std::vector<int64_t> slots;
    for (const ArgumentSlot &slot : loaded->image().slots) {
      switch (slot.kind) {
        case ArgumentSlot::Kind::Dim: slots.push_back(dims.at(slot.name)); break;
        case ArgumentSlot::Kind::Pointer:
          slots.push_back(reinterpret_cast<int64_t>(buffers.at(slot.name).memory.get()));
          break;
        case ArgumentSlot::Kind::Stride: slots.push_back(strides.at(slot.name)[slot.index]); break;
      }
    }
    int64_t programs = B * H;
    switch (loaded->image().grid) {
      case Grid::QueryTile: programs = B * H * tiles(T, loaded->image().tileQ); break;
      case Grid::KeyTile: programs = B * G * tiles(dims.at(loaded->image().keyDim), loaded->image().tileK); break;
      case Grid::HeadKeyTile: programs = B * H * tiles(dims.at(loaded->image().keyDim), loaded->image().tileK); break;
      case Grid::Group: programs = B * G; break;
      case Grid::Head: break;
    }
    LaunchContext context;
    context.threads = options.threads;
    context.workspaceBytes = 4 * dims[workspaceRow];
    for (const auto &[name, own] : buffers)
      context.memory.push_back({reinterpret_cast<uint64_t>(own.memory.get()), own.bytes()});
    context.report = &outcome.report;
    loaded->run(slots.data(), programs, context);
  };

  outcome.tiles.assign(B * H, std::vector<int>(queryTiles * keyTiles, 0));
  auto lists = [&](bool byKey, const std::string &keyDim = "S") {
    const int64_t ownTiles = keyDim == "S" ? keyTiles : tiles(dims.at(keyDim), options.tileK);
    const int64_t rows = B * H * (byKey ? ownTiles : queryTiles), others = byKey ? queryTiles : ownTiles;
    make(ofKeys(byKey ? "counts_keys" : "counts", keyDim), ElementType::I32, rows);
    make(ofKeys(byKey ? "entries_keys" : "entries", keyDim), ElementType::I32, rows * others);
    run(ofKeys(byKey ? "plan_lists_keys" : "plan_lists", keyDim));
  };
  const SelectionInfo &selection = variant->selection();
  for (size_t n = 0; n < selection.pools.size(); ++n) {
    const auto &shape = inputs.at(variant->inputs()[selection.pools[n].input].name).shape;
    make(selection.pools[n].buffer, ElementType::F32,
         shape[0] * shape[1] * tiles(tiles(shape[2], selection.pools[n].tile), selection.pools[n].block) *
             selection.pools[n].block * shape[3]);
    run("pool_" + std::to_string(n));
  }
  for (size_t n = 0; n < selection.rounds.size(); ++n) {
    const SelectionInfo::Round &round = selection.rounds[n];
    const int64_t size = B * H * tiles(T, round.tileQ) * tiles(S, round.tileK);
    make(round.buffer, ElementType::Bool, size);
    dims[workspaceRow] = round.planes * round.together * tiles(S, round.tileK);
    make(workspace, ElementType::F32, B * H * tiles(tiles(T, round.tileQ), round.together) * dims[workspaceRow]);
    run("select_" + std::to_string(n));
  }
  if (variant->selects())
    outcome.selection.assign(buffers["selection"].as<uint8_t>(),
                             buffers["selection"].as<uint8_t>() + buffers["selection"].count);
  if (variant->selectsKeys()) {
    dims[selectedRows] = tiles(T, selection.rounds.back().tileQ);
    make(selectedKeys, ElementType::I32, buffers["selection"].count);
    make(selectedCounts, ElementType::I32, B * H * dims[selectedRows]);
    run("list_keys");
  }
  if (variant->needsLists()) {
    lists(false);
    const int *counts = buffers["counts"].as<int>(), *entries = buffers["entries"].as<int>();
    for (int64_t head = 0; head < B * H; ++head)
      for (int64_t qt = 0; qt < queryTiles; ++qt)
        for (int64_t row = head * queryTiles + qt, at = row * keyTiles; at < row * keyTiles + counts[row]; ++at)
          outcome.tiles[head][qt * keyTiles + entries[at] / 2] = 1 + entries[at] % 2;
  } else {
    make("band", ElementType::I32, B * H * 4);
    run("plan_band");
    for (int64_t head = 0; head < B * H; ++head) {
      const int *band = buffers["band"].as<int>() + head * 4;
      for (int64_t qt = 0; qt < queryTiles; ++qt)
        for (int64_t kt = 0; kt < keyTiles; ++kt) {
          const int64_t i0 = qt * options.tileQ, i1 = std::min<int64_t>(i0 + options.tileQ, T) - 1;
          const int64_t j0 = kt * options.tileK, j1 = std::min<int64_t>(j0 + options.tileK, S) - 1;
          if (i1 - j0 < band[0] || i0 - j1 > band[1] || band[0] > band[1]) continue;
          outcome.tiles[head][qt * keyTiles + kt] = i0 - j1 >= band[2] && i1 - j0 <= band[3] ? 2 : 1;
        }
    }
  }
  if (options.plansOnly) return outcome;
  for (const KeySetInfo &keys : variant->keySets()) {
    if (keys.dim == "S") continue;
    if (keys.lists) {
      lists(false, keys.dim);
    } else {
      make(ofKeys("band", keys.dim), ElementType::I32, B * H * 4);
      run(ofKeys("plan_band", keys.dim));
    }
  }
  run("forward");
  outcome.o = buffers["o"].floats();
  outcome.lse = buffers["lse"].floats();
  if (!cotangent.empty()) {
    Buffer &dO = make("do", options.type, B * H * T * E);
    for (int64_t at = 0; at < dO.count; ++at) dO.set(at, cotangent[at]);
    make("delta", ElementType::F32, B * H * T);
    make("dlse", ElementType::F32, B * H * T);
    for (const InputInfo &input : variant->inputs()) {
      if (!input.isFloat) continue;
      const auto &shape = inputs.at(input.name).shape;
      int64_t own = 1;
      for (size_t d = 0; d < shape.size(); ++d)
        if (input.dims[d] != "B" && input.dims[d] != "H" && input.dims[d] != "G") own *= shape[d];
      int64_t size = B * H * own;
      if (!input.isRow)
        size = B * H * (input.partialKind <= 1 ? T : input.partialKind == 2 ? dims.at(input.dims.back()) : own);
      else size = static_cast<int64_t>(inputs.at(input.name).values.size());
      make("d" + input.name, input.isRow && input.querySide ? options.type : ElementType::F32, size);
    }
    if (variant->hasDelta()) run("backward_delta");
    if (options.twoPass && variant->hasTwoPassBackward(G != H)) {
      run("backward_dq");
      for (const KeySetInfo &keys : variant->keySets()) {
        if (keys.lists) lists(true, keys.dim);
        run(ofKeys("backward_dkdv", keys.dim));
      }
    } else {
      run("backward");
    }
    for (const InputInfo &input : variant->inputs()) {
      if (!input.isFloat) continue;
      const std::vector<float> partial = buffers["d" + input.name].floats();
      const auto &shape = inputs.at(input.name).shape;
      std::vector<double> sums(inputs.at(input.name).values.size(), 0.0);
      if (input.isRow) {
        sums.assign(partial.begin(), partial.begin() + static_cast<int64_t>(sums.size()));
      } else {
        const int64_t inner = B * H == 0 ? 0 : static_cast<int64_t>(partial.size()) / (B * H);
        int64_t own = 1;
        bool hasB = false, hasH = false, hasG = false;
        for (size_t d = 0; d < shape.size(); ++d) {
          hasB |= input.dims[d] == "B";
          hasH |= input.dims[d] == "H";
          hasG |= input.dims[d] == "G";
          if (input.dims[d] != "B" && input.dims[d] != "H" && input.dims[d] != "G") own *= shape[d];
        }
        for (int64_t b = 0; b < B; ++b)
          for (int64_t h = 0; h < H; ++h)
            for (int64_t at = 0; at < inner; ++at) {
              int64_t index = hasB ? b : 0;
              if (hasH) index = index * H + h;
              if (hasG) index = index * G + h / (H / G);
              index = index * own + (input.partialKind == 0 ? 0 : at);
              sums[index] += partial[(b * H + h) * inner + at];
            }
      }
      outcome.gradients[input.name] = std::move(sums);
    }
  }
  outcome.outside = buffers["status"].as<int>()[0] != 0;
  return outcome;
}

}  // namespace weft::testing
