#include "tests/unit/call.h"

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "runtime/kernel_cache.h"

namespace weft::testing {

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

Outcome call(const std::shared_ptr<const Variant> &variant, const std::map<std::string, reference::Array> &inputs,
             const std::vector<double> &cotangent, const CallOptions &options) {
  std::map<std::string, int64_t> dims, headDims;
  std::map<std::string, std::vector<float>> floats;
  std::map<std::string, std::vector<int32_t>> ints;
  std::map<std::string, std::vector<uint8_t>> bools;
  std::map<std::string, void *> pointers;
  std::map<std::string, std::vector<int64_t>> strides;
  auto contiguous = [](const std::vector<int64_t> &shape) {
    std::vector<int64_t> result(shape.size(), 1);
    for (int at = static_cast<int>(shape.size()) - 2; at >= 0; --at) result[at] = result[at + 1] * shape[at + 1];
    return result;
  };
  for (const InputInfo &input : variant->inputs()) {
    const reference::Array &array = inputs.at(input.name);
    for (size_t d = 0; d < input.dims.size(); ++d) dims[input.dims[d]] = array.shape[d];
    if (input.isRow) headDims[input.dims.back()] = array.shape.back();
    strides[input.name] = strides["d" + input.name] = contiguous(array.shape);
    if (input.isFloat) {
      floats[input.name].assign(array.values.begin(), array.values.end());
      pointers[input.name] = floats[input.name].data();
    } else if (input.isInt) {
      ints[input.name].assign(array.values.begin(), array.values.end());
      pointers[input.name] = ints[input.name].data();
    } else {
      bools[input.name].assign(array.values.begin(), array.values.end());
      pointers[input.name] = bools[input.name].data();
    }
  }
  if (!dims.count("G")) dims["G"] = dims["H"];
  const int64_t B = dims["B"], H = dims["H"], G = dims["G"], T = dims["T"], S = dims["S"];
  const int64_t E = inputs.at("v").shape[3];
  const int64_t queryTiles = (T + options.tileQ - 1) / options.tileQ, keyTiles = (S + options.tileK - 1) / options.tileK;
  auto buffer = [&](const std::string &name, int64_t size) -> std::vector<float> & {
    auto &own = floats[name];
    own.assign(std::max<int64_t>(size, 1), 0.0f);
    pointers[name] = own.data();
    return own;
  };
  auto intBuffer = [&](const std::string &name, int64_t size) -> std::vector<int32_t> & {
    auto &own = ints[name];
    own.assign(std::max<int64_t>(size, 1), 0);
    pointers[name] = own.data();
    return own;
  };
  strides["o"] = strides["do"] = contiguous({B, H, T, E});
  buffer("o", B * H * T * E);
  buffer("lse", B * H * T);
  intBuffer("status", 1);

  auto run = [&](const char *kernel) {
    CompileRequest request;
    request.variant = variant;
    request.kernel = kernel;
    request.dims = headDims;
    request.tileQ = options.tileQ;
    request.tileK = options.tileK;
    auto loaded = loadKernel(request);
    std::vector<int64_t> slots;
    for (const ArgumentSlot &slot : loaded->image().slots) {
      switch (slot.kind) {
        case ArgumentSlot::Kind::Dim: slots.push_back(dims.at(slot.name)); break;
        case ArgumentSlot::Kind::Pointer: slots.push_back(reinterpret_cast<int64_t>(pointers.at(slot.name))); break;
        case ArgumentSlot::Kind::Stride: slots.push_back(strides.at(slot.name)[slot.index]); break;
        case ArgumentSlot::Kind::Seed: slots.push_back(7); break;
      }
    }
    int64_t programs = B * H;
    switch (loaded->image().grid) {
      case Grid::QueryTile: programs = B * H * queryTiles; break;
      case Grid::KeyTile: programs = B * G * keyTiles; break;
      case Grid::HeadKeyTile: programs = B * H * keyTiles; break;
      case Grid::Group: programs = B * G; break;
      case Grid::Head: break;
    }
    loaded->run(slots.data(), programs, options.threads);
  };

  Outcome outcome;
  outcome.tiles.assign(B * H, std::vector<int>(queryTiles * keyTiles, 0));
  auto lists = [&](bool byKey) {
    const int64_t rows = B * H * (byKey ? keyTiles : queryTiles);
    intBuffer("counts", rows);
    run(byKey ? "plan_count_keys" : "plan_count");
    std::vector<int32_t> counts = ints["counts"], keptOffsets = ints["offsets"], keptEntries = ints["entries"];
    auto &offsets = intBuffer("offsets", rows + 1);
    for (int64_t row = 0; row < rows; ++row) offsets[row + 1] = offsets[row] + counts[row];
    intBuffer("entries", offsets[rows]);
    run(byKey ? "plan_fill_keys" : "plan_fill");
    if (!byKey) return;
    ints["offsets_keys"] = ints["offsets"];
    ints["entries_keys"] = ints["entries"];
    ints["offsets"] = keptOffsets;
    ints["entries"] = keptEntries;
    for (const char *name : {"offsets", "entries", "offsets_keys", "entries_keys"}) pointers[name] = ints[name].data();
  };
  if (variant->needsLists()) {
    lists(false);
    for (int64_t head = 0; head < B * H; ++head)
      for (int64_t qt = 0; qt < queryTiles; ++qt)
        for (int at = ints["offsets"][head * queryTiles + qt]; at < ints["offsets"][head * queryTiles + qt + 1]; ++at)
          outcome.tiles[head][qt * keyTiles + ints["entries"][at] / 2] = 1 + ints["entries"][at] % 2;
  } else {
    intBuffer("band", B * H * 4);
    run("plan_band");
    for (int64_t head = 0; head < B * H; ++head) {
      const int *band = &ints["band"][head * 4];
      for (int64_t qt = 0; qt < queryTiles; ++qt)
        for (int64_t kt = 0; kt < keyTiles; ++kt) {
          const int64_t i0 = qt * options.tileQ, i1 = std::min<int64_t>(i0 + options.tileQ, T) - 1;
          const int64_t j0 = kt * options.tileK, j1 = std::min<int64_t>(j0 + options.tileK, S) - 1;
          if (i1 - j0 < band[0] || i0 - j1 > band[1] || band[0] > band[1]) continue;
          outcome.tiles[head][qt * keyTiles + kt] = i0 - j1 >= band[2] && i1 - j0 <= band[3] ? 2 : 1;
        }
    }
  }
  run("forward");
  outcome.o = floats["o"];
  outcome.lse = floats["lse"];
  outcome.o.resize(B * H * T * E);
  if (!cotangent.empty()) {
    buffer("do", B * H * T * E);
    floats["do"].assign(cotangent.begin(), cotangent.end());
    pointers["do"] = floats["do"].data();
    buffer("delta", B * H * T);
    buffer("dlse", B * H * T);
    for (const InputInfo &input : variant->inputs()) {
      if (!input.isFloat) continue;
      const auto &shape = inputs.at(input.name).shape;
      int64_t own = 1;
      for (size_t d = 0; d < shape.size(); ++d)
        if (input.dims[d] != "B" && input.dims[d] != "H" && input.dims[d] != "G") own *= shape[d];
      int64_t size = B * H * own;
      if (!input.isRow) size = B * H * (input.partialKind <= 1 ? T : input.partialKind == 2 ? S : own);
      else size = static_cast<int64_t>(inputs.at(input.name).values.size());
      buffer("d" + input.name, size);
    }
    if (variant->hasSoftmax()) run("backward_delta");
    if (options.twoPass && variant->hasTwoPassBackward()) {
      if (variant->needsLists()) lists(true);
      run("backward_dq");
      run("backward_dkdv");
    } else {
      run("backward");
    }
    for (const InputInfo &input : variant->inputs()) {
      if (!input.isFloat) continue;
      const auto &partial = floats["d" + input.name];
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
  outcome.outside = ints["status"][0] != 0;
  return outcome;
}

}  // namespace weft::testing
