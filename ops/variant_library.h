// Finds variants: the library's by name, files by path, or source text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compiler/compiler.h"

namespace weft {

struct LibraryVariant {
  std::string name;
  std::string text;
};
/// The variants of ops/variants, built into this library.
const std::vector<LibraryVariant> &variantLibrary();

/// Parsed at most once for each `variant`; thread-safe. A file with several variants takes
/// "path:name". Throws std::invalid_argument with the diagnostics.
std::shared_ptr<const Variant> findVariant(const std::string &variant);

}  // namespace weft
