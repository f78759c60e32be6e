#include "ops/sample_inputs.h"

#include "compiler/terms.h"
#include "ops/arguments.h"
#include "ops/phase_order.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>

namespace weft::ops {

std::string SampleShape::text() const {
  return std::to_string(B) + "," + std::to_string(H) + "," + std::to_string(T) + "," + std::to_string(D);
}

SampleShape parseShape(const std::string &text) {
  std::vector<int64_t> list;
  std::istringstream stream(text);
  try {
    for (std::string part; std::getline(stream, part, ',');) {
      size_t used = 0;
      list.push_back(std::stoll(part, &used));
      if (used != part.size()) list.push_back(0);
    }
  } catch (const std::exception &) {
    list.clear();
  }
  if (list.size() != 4 || *std::min_element(list.begin(), list.end()) < 1)
    throw std::runtime_error("expected a shape B,H,T,D of positive numbers, got '" + text + "'");
  return {list[0], list[1], list[2], list[3]};
}

namespace {

using Sizes = std::map<std::string, int64_t>;

std::vector<int64_t> sizesOf(const InputInfo &input, const Sizes &dims) {
  std::vector<int64_t> sizes;
  for (const std::string &dim : input.dims) sizes.push_back(dims.count(dim) ? dims.at(dim) : 16);
  return sizes;
}

/// A number of tokens, one for all heads or for each: up to T or S.
bool isReach(const InputInfo &input) {
  const auto &high = input.values.high;
  return high && (*high == Bound{"T"} || *high == Bound{"S"}) &&
         (input.dims.empty() || input.dims == std::vector<std::string>{"H"});
}

/// Positions for a list of keys: an eighth of the keys for all queries, of those up to a query, or of those before a
/// tile of queries, and the tile's own.
torch::Tensor keyPositions(const KeyListInfo &list, int64_t T) {
  if (list.tile == 0) return torch::arange(std::max<int64_t>(T / 8, 1)).mul(8);
  if (list.tile == 1) {
    const torch::Tensor keys = torch::arange(T).unsqueeze(1) - torch::arange(std::max<int64_t>(T / 8, 1)).mul(8);
    return keys.clamp_min(-1);
  }
  const int64_t tile = list.tile, rows = (T + tile - 1) / tile, length = std::max<int64_t>(T / 8, tile);
  const torch::Tensor own = torch::arange(rows).mul(tile).unsqueeze(1) + torch::arange(tile);
  const torch::Tensor before = torch::arange(length - tile).mul(8).expand({rows, length - tile});
  return torch::cat({before.masked_fill(before >= own.slice(1, 0, 1), -1), own.masked_fill(own >= T, -1)}, 1);
}

/// By what the declaration says of the values.
torch::Tensor declared(const InputInfo &input, const std::vector<int64_t> &sizes, Bounds typical) {
  if (input.isInt) typical = {std::floor(typical.low), std::floor(typical.high)};
  const double values = typical.high - typical.low + (input.isInt ? 1 : 0);
  torch::Tensor share = torch::rand(sizes);
  if (input.values.rising) share = (torch::arange(sizes.back(), torch::kDouble) / sizes.back()).expand(sizes);
  const torch::Tensor value = typical.low + values * share;
  return input.isInt ? value.floor().clamp_max(typical.high).to(torch::kInt) : value.to(torch::kFloat).contiguous();
}

}  // namespace

SampleInputs sampleInputs(const Variant &variant, const SampleShape &shape, at::ScalarType type, torch::Device device,
                          int64_t span, bool shapesAlone) {
  const int64_t T = shape.T;
  Sizes dims{{"B", shape.B}, {"H", shape.H}, {"T", T},     {"S", T},
             {"D", shape.D}, {"E", shape.D}, {"N", 2 * T}, {"M", (T + 63) / 64}};
  for (const InputInfo &input : variant.inputs())
    if (const int axis = input.groupAxis(); axis >= 0) dims[input.dims[axis]] = shape.G ? shape.G : shape.H;
  for (const std::string &dim : termDims(variant)) dims[dim] = 8;
  const std::map<std::string, torch::Tensor> sorted = sampleByPhase(variant, shape.H, T);
  SampleInputs inputs;
  for (size_t position = 0; position < variant.inputs().size(); ++position) {
    const InputInfo &input = variant.inputs()[position];
    std::vector<int64_t> sizes = sizesOf(input, dims);
    const std::optional<Bounds> typical = input.values.typical(dims);
    torch::Tensor value;
    if (auto found = sorted.find(input.name); found != sorted.end()) {
      value = found->second;
    } else if (static_cast<int>(position) == variant.keyList().input) {
      const torch::Tensor keys = keyPositions(variant.keyList(), T);
      std::copy(keys.sizes().begin(), keys.sizes().end(), sizes.end() - keys.dim());
      value = keys.to(torch::kInt).expand(sizes).contiguous();
    } else if (shapesAlone && input.isRow && !input.isPooled) {
      value = torch::zeros({1}, type).expand(sizes);
    } else if (input.isBool) {
      value = torch::rand(sizes) < 0.02;
    } else if (span > 0 && isReach(input)) {
      value = torch::full(sizes, span, input.isInt ? torch::kInt : torch::kFloat);
    } else if (typical) {
      value = declared(input, sizes, *typical);
    } else {
      value = torch::randn(sizes);
      if (input.isInt) value = (value.abs() * 8).to(torch::kInt);
    }
    if (input.isRow) value = value.to(type);
    value = value.to(device);
    inputs.names.push_back(input.name);
    inputs.tensors.push_back(input.isFloat ? value.requires_grad_() : value);
  }
  return inputs;
}

at::ScalarType scalarType(const std::string &name) {
  if (const auto type = rowTypeNamed(name)) return torchType(*type);
  throw std::runtime_error("expected f32, bf16, f16 or f64, got '" + name + "'");
}

}  // namespace weft::ops
