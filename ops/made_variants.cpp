#include "ops/made_variants.h"

#include "ops/arguments.h"

namespace weft::ops {

std::shared_ptr<const Variant> MadeVariants::of(const std::shared_ptr<const Variant> &variant, bool flag) {
  std::lock_guard lock(mutex);
  Made &made = all[{variant.get(), flag}];
  if (!made.of) {
    made.of = variant;
    if (const std::optional<std::string> text = source(*variant, flag))
      if (const ParseResult parsed = parse(*text, "decode"); parsed.diagnostics.empty())
        made.variant = variantOrThrow(parsed.variants[0]->source());
  }
  return made.variant;
}

}  // namespace weft::ops
