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

/// A text is parsed once, a file again when it has changed; thread-safe. A file with several variants takes
/// "path:name". Throws std::invalid_argument with the diagnostics.
std::shared_ptr<const Variant> findVariant(const std::string &variant);

/// True for texts and names of the library, false for files, which may change.
bool isLasting(const std::string &variant);
/// The same variant by a name that files do not change: a file's text as it is now. For what must stay one variant from
/// its forward to its backward pass, or for a whole training run.
std::string lastingText(const std::string &variant);

}  // namespace weft
