#include "ops/arguments.h"

#include <algorithm>
#include <array>
#include <limits>

#include "compiler/dims.h"
#include "compiler/grouped.h"
#include "compiler/terms.h"
#include "ops/variant_library.h"
#include "runtime/environment.h"

namespace weft::ops {
int find(const std::vector<std::string> &list, const std::string &name) {
  for (size_t at = 0; at < list.size(); ++at)
    if (list[at] == name) return static_cast<int>(at);
  return -1;
}

std::shared_ptr<const Variant> variantOrThrow(c10::string_view variant) {
  try {
    return findVariant(std::string(variant));
  } catch (const std::invalid_argument &error) {
    TORCH_CHECK(false, "weft: ", error.what());
  }
}

namespace {

std::string dimsText(const InputInfo &input) {
  std::string text = "[";
  for (size_t at = 0; at < input.dims.size(); ++at) text += (at ? ", " : "") + input.dims[at];
  return text + "]";
}
/// As a list of Python.
template <class Sizes>
std::string shapeText(const Sizes &sizes) {
  std::string text;
  for (size_t at = 0; at < sizes.size(); ++at) {
    const c10::SymInt &size = sizes[at];
    const auto number = size.maybe_as_int();
    text += (at ? ", " : "") + (number ? std::to_string(*number) : size.toSymNode()->str());
  }
  return "[" + text + "]";
}

std::string where(const Variant &variant) { return "weft: variant '" + variant.name() + "': "; }

void checkCount(size_t names, size_t tensors) {
  TORCH_CHECK(names == tensors, "weft: expected as many names as tensors, got ", names, " and ", tensors);
}

void checkNames(const Variant &variant, const std::vector<std::string> &names) {
  for (const std::string &name : names) {
    bool known =
        (name == "seed" && variant.hasDropout()) || (name == "selection" && variant.selects()) || name == "origin";
    for (const InputInfo &input : variant.inputs()) known |= input.name == name;
    std::string inputs;
    if (!known)
      for (const InputInfo &input : variant.inputs()) inputs += " " + input.name;
    TORCH_CHECK(known, where(variant), "no input is named '", name, "'; the inputs are:", inputs);
    TORCH_CHECK(std::count(names.begin(), names.end(), name) == 1, where(variant), "'", name, "' is given twice");
  }
}

void checkType(const Variant &variant, const InputInfo &input, at::ScalarType type, at::ScalarType operands) {
  if (input.isRow) {
    TORCH_CHECK(type == operands, where(variant), "expected input '", input.name, "' of type ",
                name(elementType(operands)), " like 'v', got ", name(elementType(type)));
  } else if (input.isFloat) {
    TORCH_CHECK(at::isFloatingType(type), where(variant), "expected input '", input.name, "' of a float type, got ",
                type);
  } else if (input.isInt) {
    TORCH_CHECK(at::isIntegralType(type, false), where(variant), "expected input '", input.name,
                "' of an integer type, got ", type);
  } else {
    TORCH_CHECK(type == at::kBool, where(variant), "expected input '", input.name, "' of type bool, got ", type);
  }
}

/// `expected` dims where given, as far as they are numbers or the same symbols.
void checkShape(const Variant &variant, const char *name, const at::Tensor &tensor,
                const std::vector<c10::SymInt> &expected) {
  TORCH_CHECK(tensor.sym_sizes() == c10::SymIntArrayRef(expected), where(variant), "expected '", name, "' of shape ",
              shapeText(expected), ", got ", shapeText(tensor.sym_sizes()));
}

/// The sizes of originDims: what the call says, or a piece that is the whole.
void placePiece(Arguments &arguments, at::TensorList tensors) {
  const Signature &signature = *arguments.signature;
  std::array<c10::SymInt, 4> sizes{0, 0, arguments.size("T"), arguments.size("S")};
  if (signature.origin >= 0) {
    const at::Tensor &origin = tensors[signature.origin];
    TORCH_CHECK(origin.scalar_type() == at::kLong && origin.dim() == 1 && origin.sym_size(0) == 4 &&
                    (origin.is_cpu() || origin.is_meta()),
                where(*signature.variant),
                "expected 'origin' to be an int64 tensor of 4 elements on the CPU: where the first query and the first "
                "key stand, and how many queries and keys there are in all; got ",
                origin.scalar_type(), " ", shapeText(origin.sym_sizes()), " on ", origin.device());
    // Shapes hang on none of them.
    if (origin.is_cpu()) {
      const at::Tensor whole = origin.contiguous();
      const int64_t *given = whole.const_data_ptr<int64_t>();
      std::copy(given, given + 4, sizes.begin());
      for (const int side : {0, 1}) {
        const auto length = side                            ? arguments.size("S").maybe_as_int()
                            : isGrouped(*signature.variant) ? 1
                                                            : arguments.size("T").maybe_as_int();
        TORCH_CHECK(!length || (given[side] >= 0 && given[side] + *length <= given[side + 2]),
                    where(*signature.variant), "expected 'origin' to say ", side ? "keys" : "queries",
                    " of the whole sequence, got ", *length, " from ", given[side], " on, of ", given[side + 2]);
      }
      const auto keys = arguments.size("S").maybe_as_int();
      TORCH_CHECK(joiningOf(*signature.variant) != Joining::None || !keys || *keys == given[3],
                  where(*signature.variant),
                  "a query needs all of its keys in one call; expected all of them beside 'origin', got ", *keys,
                  " of ", given[3]);
    }
  }
  for (size_t at = 0; at < sizes.size(); ++at) arguments.sizes[find(signature.dims, originDims[at])] = sizes[at];
}

}  // namespace

Signature::Signature(std::shared_ptr<const Variant> own, std::vector<std::string> ownNames, size_t tensors)
    : variant(std::move(own)), names(std::move(ownNames)), dims(dimNames(*variant)) {
  checkCount(names.size(), tensors);
  checkNames(*variant, names);
  TORCH_CHECK(find(names, "v") >= 0, "weft: expected a tensor named 'v' among the names");
  seed = find(names, "seed");
  selection = find(names, "selection");
  if (std::ranges::none_of(variant->inputs(), [](const InputInfo &input) { return input.name == "origin"; }))
    origin = find(names, "origin");
  TORCH_CHECK(origin < 0 || !variant->selects() || selection >= 0, where(*variant),
              "expected 'selection' beside 'origin': tiles are chosen of the whole sequence, by weft::select, and the "
              "tiles of a piece are a part of its map");
  for (const InputInfo &input : variant->inputs()) {
    const int at = find(names, input.name);
    TORCH_CHECK(at >= 0, where(*variant), "expected input '", input.name, "' ", dimsText(input), ", got none");
    places.push_back(at);
    if (queries < 0 && input.isRow && input.querySide) queries = at;
    std::vector<int> &own = inputDims.emplace_back();
    for (const std::string &dim : input.dims) own.push_back(find(dims, dim));
    if (input.isRow && std::find(headDims.begin(), headDims.end(), own.back()) == headDims.end())
      headDims.push_back(own.back());
  }
  std::sort(headDims.begin(), headDims.end(), [&](int a, int b) { return dims[a] < dims[b]; });
  for (const std::string &dim : weft::termDims(*variant)) termDims.push_back(find(dims, dim));
}

const c10::SymInt &Arguments::size(const std::string &dim) const { return sizes[find(signature->dims, dim)]; }

Arguments checkArguments(const Signature &signature, at::TensorList tensors) {
  checkCount(signature.names.size(), tensors.size());
  const Variant &variant = *signature.variant;
  Arguments result;
  result.signature = &signature;
  result.sizes.assign(signature.dims.size(), c10::SymInt(-1));
  const at::Tensor &value = tensors[signature.places[variant.keySets()[0].values]];
  const at::ScalarType operands = result.type = value.scalar_type();
  const c10::Device device = value.device();
  std::vector<const std::string *> from(result.sizes.size());
  for (size_t n = 0; n < variant.inputs().size(); ++n) {
    const InputInfo &input = variant.inputs()[n];
    const at::Tensor &tensor = tensors[signature.places[n]];
    TORCH_CHECK(tensor.device() == device, where(variant), "expected input '", input.name, "' on ", device,
                " like 'v', got it on ", tensor.device());
    const c10::SymIntArrayRef shape = tensor.sym_sizes();
    TORCH_CHECK(shape.size() == input.dims.size(), where(variant), "expected input '", input.name, "' with the dims ",
                dimsText(input), ", got shape ", shapeText(shape));
    for (size_t d = 0; d < shape.size(); ++d) {
      const int position = signature.inputDims[n][d];
      c10::SymInt &known = result.sizes[position];
      if (!from[position]) {
        known = shape[d];
        from[position] = &input.name;
      }
      TORCH_CHECK(known == shape[d], where(variant), "expected dim ", input.dims[d], " of input '", input.name,
                  "' to be ", known, " as in '", *from[position], "', got shape ", shapeText(shape));
    }
    checkType(variant, input, tensor.scalar_type(), operands);
  }
  elementType(operands);
  TORCH_CHECK(operands != at::kDouble || device.is_cpu() || device.is_meta(), where(variant),
              "float64 runs on CPUs alone, got it on ", device, "; expected float32, bfloat16 or float16");
  for (int position : {0, 1, 3})
    TORCH_CHECK(from[position], where(variant), "no tensor has the dim ", signature.dims[position]);
  if (!from[2]) result.sizes[2] = result.sizes[1];
  if (hasOrigin(variant)) placePiece(result, tensors);
  // What needs numbers; symbols are checked when they have become some.
  auto number = [&](int position) { return result.sizes[position].maybe_as_int(); };
  const auto heads = number(1), groups = number(2), queries = number(3);
  if (heads && groups)
    TORCH_CHECK(*groups > 0 ? *heads % *groups == 0 : *heads == 0, where(variant),
                "expected G to divide H, got G = ", *groups, " and H = ", *heads);
  for (size_t position = 5; position < signature.dims.size(); ++position) {
    if (!isGroupDim(signature.dims[position])) continue;
    const auto own = number(static_cast<int>(position));
    if (heads && groups && own)
      TORCH_CHECK(*own > 0 ? *heads % *own == 0 && *own % *groups == 0 : *heads == 0, where(variant), "expected ",
                  signature.dims[position], " to divide H, and G to divide it, got ", signature.dims[position], " = ",
                  *own, ", H = ", *heads, " and G = ", *groups);
  }
  for (size_t position = 0; position < result.sizes.size(); ++position)
    if (const auto size = number(static_cast<int>(position)))
      TORCH_CHECK(*size <= largestExtent, where(variant), "expected dim ", signature.dims[position], " up to ",
                  largestExtent, ", got ", *size);
  if (const KeyListInfo &lists = variant.keyList(); lists.tile > 1 && queries) {
    const c10::SymInt rows = tensors[signature.places[lists.input]].sym_size(-2);
    if (const auto count = rows.maybe_as_int())
      TORCH_CHECK(*count * lists.tile >= *queries, where(variant), "expected input '",
                  variant.inputs()[lists.input].name, "' with a list for each ", lists.tile, " of ", *queries,
                  " queries, got ", *count);
  }
  if (signature.seed >= 0) {
    const at::Tensor &seed = tensors[signature.seed];
    TORCH_CHECK(seed.scalar_type() == at::kLong && seed.dim() == 1 && seed.sym_size(0) == 2 &&
                    (seed.device() == device || (seed.is_cpu() && !device.is_meta())),
                where(variant), "expected 'seed' to be an int64 tensor of 2 elements, the seed and the offset, on ",
                device, ", got ", seed.scalar_type(), " ", shapeText(seed.sym_sizes()), " on ", seed.device());
  }
  if (signature.selection >= 0) {
    const at::Tensor &map = tensors[signature.selection];
    const std::vector<c10::SymInt> shape = selectionShape(result);
    TORCH_CHECK(map.scalar_type() == at::kBool && map.device() == device &&
                    map.sym_sizes() == c10::SymIntArrayRef(shape),
                where(variant), "expected 'selection' of type bool and shape ", shapeText(shape), " on ", device,
                ", as weft::select gives, got ", map.scalar_type(), " ", shapeText(map.sym_sizes()), " on ",
                map.device());
  }
  return result;
}

std::string sourceOfCall(const Signature &signature, at::TensorList tensors) {
  checkCount(signature.names.size(), tensors.size());
  std::map<std::string, int64_t> sizes;
  for (size_t n = 0; n < signature.places.size(); ++n) {
    const at::Tensor &tensor = tensors[signature.places[n]];
    const std::vector<int> &own = signature.inputDims[n];
    if (tensor.dim() != static_cast<int64_t>(own.size())) checkArguments(signature, tensors);  // says so
    for (size_t d = 0; d < own.size(); ++d)
      if (std::ranges::count(signature.termDims, own[d]))
        sizes[signature.dims[own[d]]] = tensor.sym_size(static_cast<int64_t>(d)).guard_int(__FILE__, __LINE__);
  }
  try {
    // Both are counted from places in the variant's own text, and terms stand behind the parameters.
    std::string text = signature.termDims.empty() ? signature.variant->source() : sourceWith(*signature.variant, sizes);
    if (signature.origin < 0 || hasOrigin(*signature.variant)) return text;
    return sourceWithOrigin(*signature.variant, std::move(text));
  } catch (const std::invalid_argument &error) {
    TORCH_CHECK(false, "weft: ", error.what());
  }
}

std::shared_ptr<const Variant> variantOfCall(c10::string_view variant, const std::vector<std::string> &names,
                                             at::TensorList tensors) {
  auto found = variantOrThrow(variant);
  if (termDims(*found).empty() && find(names, "origin") < 0) return found;
  const Signature signature(found, names, tensors.size());
  return signature.isOpen() ? variantOrThrow(sourceOfCall(signature, tensors)) : found;
}

int64_t rowsKept(const Variant &variant) { return static_cast<int64_t>(variant.keptRows().size()); }

void checkGradients(const Arguments &arguments, at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                    const at::Tensor &dO, const std::optional<at::Tensor> &dLse) {
  const Signature &signature = *arguments.signature;
  const Variant &variant = *signature.variant;
  TORCH_CHECK(!variant.hasDropout() || signature.seed >= 0, where(variant),
              "expected 'seed', that of the forward pass, got none");
  const std::vector<c10::SymInt> narrow{arguments.size("B"), arguments.size("H"), arguments.size("T")};
  std::vector<c10::SymInt> wide = narrow, kept = narrow;
  kept.insert(kept.begin(), rowsKept(variant));
  const at::Tensor &value = tensors[signature.places[variant.keySets()[0].values]];
  wide.push_back(value.sym_size(3));
  auto check = [&](const char *name, const at::Tensor &tensor, const std::vector<c10::SymInt> &shape, bool anyFloat,
                   at::ScalarType type) {
    TORCH_CHECK(tensor.defined() && tensor.device() == value.device(), where(variant), "expected '", name, "' on ",
                value.device(), " like 'v', got it on ", tensor.defined() ? tensor.device() : c10::Device(at::kCPU));
    TORCH_CHECK(anyFloat ? tensor.is_floating_point() : tensor.scalar_type() == type, where(variant), "expected '",
                name, "' of ", anyFloat ? "a float type" : toString(type), ", got ", tensor.scalar_type());
    checkShape(variant, name, tensor, shape);
  };
  check("o", o, wide, false, value.scalar_type());
  check("rows", rows, kept, false, floatsBeside(value.scalar_type()));
  check("do", dO, wide, true, at::kFloat);
  if (dLse && dLse->defined()) check("dlse", *dLse, narrow, true, at::kFloat);
}

std::vector<c10::SymInt> selectionShape(const Arguments &arguments) {
  const SelectionInfo::Round &round = arguments.signature->variant->selection().rounds.back();
  auto tiles = [&](const char *dim, int tile) { return (arguments.size(dim) + (tile - 1)) / tile; };
  return {arguments.size("B"), arguments.size("H"), tiles("T", round.tileQ), tiles("S", round.tileK)};
}

at::Tensor drawnSeed(const at::Device &device) {
  return at::randint(std::numeric_limits<int32_t>::max(), {2}, at::TensorOptions(at::kLong).device(device));
}

at::Tensor as32Bits(const at::Tensor &tensor, const std::function<std::string()> &what) {
  const at::ScalarType type = tensor.scalar_type();
  if (type != at::kLong && type != at::kUInt32 && type != at::kUInt64) return tensor.to(at::kInt).contiguous();
  constexpr int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
  const at::Tensor wide = tensor.to(at::kLong);
  if (wide.is_cuda() && !environment::synchronous()) {
    // Large ones of 64 unsigned bits have become negative.
    const at::Tensor whole = type == at::kUInt64 ? wide.masked_fill(wide < 0, most) : wide;
    return whole.clamp(least, most).to(at::kInt).contiguous();
  }
  const at::Tensor from = wide.cpu().contiguous(), narrow = at::empty(from.sizes(), from.options().dtype(at::kInt));
  const int64_t *source = from.const_data_ptr<int64_t>(), count = from.numel();
  int32_t *target = narrow.mutable_data_ptr<int32_t>();
  const int64_t lowest = type == at::kUInt64 ? 0 : least;
  bool lost = false;
  for (int64_t at = 0; at < count; ++at) {
    target[at] = static_cast<int32_t>(source[at]);
    lost |= source[at] < lowest || source[at] > most;
  }
  if (lost) {
    const int64_t value =
        *std::find_if(source, source + count, [&](int64_t own) { return own < lowest || own > most; });
    TORCH_CHECK(false, what(), " holds ",
                type == at::kUInt64 ? std::to_string(static_cast<uint64_t>(value)) : std::to_string(value),
                ", expected integers from ", least, " to ", most);
  }
  return narrow.to(tensor.device());
}

at::ScalarType torchType(ElementType type) {
  switch (type) {
    case ElementType::F32: return at::kFloat;
    case ElementType::BF16: return at::kBFloat16;
    case ElementType::F16: return at::kHalf;
    case ElementType::F64: return at::kDouble;
    case ElementType::I32: return at::kInt;
    case ElementType::I64: return at::kLong;
    case ElementType::Bool: return at::kBool;
  }
  return at::kFloat;
}

at::ScalarType floatsBeside(at::ScalarType rows) { return torchType(weft::floatsBeside(elementType(rows))); }

ElementType elementType(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return ElementType::F32;
    case at::kBFloat16: return ElementType::BF16;
    case at::kHalf: return ElementType::F16;
    case at::kDouble: return ElementType::F64;
    default: TORCH_CHECK(false, "weft: expected float32, bfloat16, float16 or, on CPUs, float64 operands, got ", type);
  }
}

}  // namespace weft::ops
