#include "ops/grouped_heads.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "compiler/grouped.h"
#include "ops/variant_library.h"

namespace weft::ops {
namespace {

std::shared_ptr<const Variant> groupedVariant(const std::shared_ptr<const Variant> &variant) {
  struct Made {
    std::shared_ptr<const Variant> of, variant;
  };
  static std::mutex mutex;
  static std::map<const Variant *, Made> all;
  std::lock_guard lock(mutex);
  Made &made = all[variant.get()];
  if (!made.of) {
    made.of = variant;
    // Where the text would become too long, heads stay apart.
    if (canBeGrouped(*variant))
      if (const ParseResult parsed = parse(sourceWithGrouped(*variant, variant->source()), "decode");
          parsed.diagnostics.empty())
        made.variant = variantOrThrow(parsed.variants[0]->source());
  }
  return made.variant;
}

}  // namespace

std::shared_ptr<const Variant> withGroupedHeads(const std::shared_ptr<const Variant> &variant,
                                                const Arguments &arguments) {
  const auto size = [&](const char *dim) { return arguments.size(dim).expect_int(); };
  const int64_t groups = size("G");
  if (size("T") != 1 || groups < 1 || size("H") == groups) return nullptr;
  return groupedVariant(variant);
}

std::vector<at::Tensor> groupedHeads(const Arguments &arguments, at::TensorList tensors) {
  const Signature &signature = *arguments.signature;
  const int64_t groups = arguments.size("G").expect_int(), heads = arguments.size("H").expect_int() / groups;
  std::vector<at::Tensor> all = tensors.vec();
  const auto &inputs = signature.variant->inputs();
  for (size_t n = 0; n < inputs.size(); ++n) {
    at::Tensor &tensor = all[static_cast<size_t>(signature.places[n])];
    const std::vector<std::string> &dims = inputs[n].dims;
    const int64_t head = find(dims, "H"), query = find(dims, "T");
    if (head >= 0) {
      // Of the one query there is a row of each head; else heads are parted where they are.
      tensor = tensor.unflatten(head, {groups, heads});
      if (query >= 0) tensor = tensor.squeeze(query > head ? query + 1 : query);
      if (query >= 0) tensor = tensor.movedim(query > head ? head + 1 : head, query);
    } else if (query >= 0) {
      std::vector<int64_t> sizes = tensor.sizes().vec();
      sizes[static_cast<size_t>(query)] = heads;
      tensor = tensor.expand(sizes);
    }
  }
  return all;
}

}  // namespace weft::ops
