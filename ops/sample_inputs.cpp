#include "ops/sample_inputs.h"

#include "ops/phase_order.h"

#include <algorithm>
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

SampleInputs sampleInputs(const Variant &variant, const SampleShape &shape, at::ScalarType type, torch::Device device,
                          int64_t span) {
  const int64_t T = shape.T, reach = span > 0 ? span : std::max<int64_t>(T / 2, 1);
  std::map<std::string, int64_t> dims{{"B", shape.B}, {"H", shape.H}, {"G", shape.H},
                                      {"T", T},       {"S", T},       {"D", shape.D},
                                      {"E", shape.D}, {"N", 2 * T},   {"M", (T + 63) / 64}};
  SampleInputs inputs;
  const auto order = phaseOrder(torch::full({shape.H}, 4.0), T, std::min<int64_t>(T, 1024));
  for (const InputInfo &input : variant.inputs()) {
    std::vector<int64_t> sizes;
    for (const std::string &dim : input.dims) sizes.push_back(dims.count(dim) ? dims.at(dim) : 16);
    torch::Tensor value;
    if (input.isBool) value = torch::rand(sizes) < 0.02;
    else if (input.name == "own" || input.name == "other")
      value = (torch::arange(T) * 8 / T).to(torch::kInt).expand(sizes).contiguous();
    // Sorted by the phase of the period below.
    else if (input.dims.size() == 2 && (input.name == "place" || input.name == "key_place"))
      value = std::get<0>(order).to(torch::kInt);
    else if (input.name == "phase" || input.name == "key_phase") value = std::get<1>(order).clone();
    else if (input.name == "place" || input.name == "key_place")
      value = torch::arange(T).to(torch::kInt).expand(sizes).contiguous();
    // A selection: an eighth of the tiles, in an eighth of the stretches and one.
    else if (input.name == "tiles") value = torch::full(sizes, std::max<int64_t>(T / 64 / 8, 1), torch::kInt);
    // Lists of an eighth of the keys; the newest 64 of each tile of queries among them.
    else if (input.name == "list")
      value =
          torch::arange(std::max<int64_t>(T / 8, 1)).mul(8).to(torch::kInt).expand({shape.B, shape.H, -1}).contiguous();
    else if (input.name == "stripes") {
      const int64_t rows = (T + 63) / 64, length = std::max<int64_t>(T / 8, 64);
      const torch::Tensor own = torch::arange(rows).mul(64).unsqueeze(1) + torch::arange(64);
      const torch::Tensor before = torch::arange(length - 64).mul(8).expand({rows, length - 64});
      value = torch::cat({before.masked_fill(before >= own.slice(1, 0, 1), -1), own.masked_fill(own >= T, -1)}, 1)
                  .to(torch::kInt)
                  .expand({shape.B, shape.H, rows, length})
                  .contiguous();
    } else if (input.name == "count") value = torch::full(sizes, T / 2, torch::kInt);
    else if (input.name == "near") value = torch::full(sizes, 16, torch::kInt);
    else if (input.name == "stride") value = torch::full(sizes, std::max<int64_t>(T / 8, 1), torch::kInt);
    else if (input.name == "stretches") value = torch::full(sizes, T / 512 / 8 + 1, torch::kInt);
    else if (input.name == "share") value = torch::full(sizes, 0.2);
    else if (input.name == "theta") value = torch::full(sizes, -0.06);
    else if (input.name == "first") value = torch::full(sizes, 4, torch::kInt);
    else if (input.isInt && input.name.find("doc") != std::string::npos)
      value = (torch::arange(T) * 4 / T).to(torch::kInt).expand(sizes).contiguous();
    else if (input.isInt) value = torch::full(sizes, reach, torch::kInt);
    else if (input.name == "span") value = torch::full(sizes, static_cast<double>(reach));
    else if (input.name == "period") value = torch::full(sizes, 4.0);
    else if (input.name == "ratio") value = torch::zeros(sizes);
    else if (input.name == "slope" || input.name == "keep") value = torch::rand(sizes) * 0.1;
    else value = torch::randn(sizes);
    if (input.isRow) value = value.to(type);
    value = value.to(device);
    inputs.names.push_back(input.name);
    inputs.tensors.push_back(input.isFloat ? value.requires_grad_() : value);
  }
  return inputs;
}

at::ScalarType scalarType(const std::string &name) {
  if (name == "f32") return at::kFloat;
  if (name == "bf16") return at::kBFloat16;
  if (name == "f16") return at::kHalf;
  throw std::runtime_error("expected f32, bf16 or f16, got '" + name + "'");
}

}  // namespace weft::ops
