#include "ops/variant_library.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <unordered_map>

#include "ops/source_file.h"

namespace weft {
namespace {

std::shared_ptr<const Variant> onlyOne(const std::string &source, const std::string &file, const std::string &wanted) {
  ParseResult result = parse(source, file);
  if (!result.diagnostics.empty()) throw std::invalid_argument(render(result.diagnostics));
  std::string names;
  for (const auto &variant : result.variants) {
    if (variant->name() == wanted) return variant;
    names += " " + variant->name();
  }
  if (!wanted.empty()) throw std::invalid_argument("no variant '" + wanted + "' in " + file + "; it holds:" + names);
  if (result.variants.size() != 1)
    throw std::invalid_argument("expected one variant in " + file + ", got" + names + "; name one as path:name");
  return result.variants[0];
}

std::shared_ptr<const Variant> parseText(const std::string &variant) {
  if (variant.find('{') != std::string::npos) return onlyOne(variant, "<text>", "");
  for (const LibraryVariant &own : variantLibrary())
    if (own.name == variant) return onlyOne(own.text, own.name + ".weft", own.name);
  return nullptr;
}

std::mutex mutex;  // of the two maps; nothing is read or parsed under it
/// Variants by library name or text, those of files too: a text is one variant wherever it stands.
std::unordered_map<std::string, std::shared_ptr<const Variant>> known;
struct KnownFile {
  FileState state;
  std::string text;
  std::shared_ptr<const Variant> variant;
};
/// By "path" or "path:name".
std::unordered_map<std::string, KnownFile> files;

std::shared_ptr<const Variant> fromFile(const std::string &path, const std::string &wanted,
                                        const std::string &variant) {
  const std::optional<FileState> now = stateOf(path);
  KnownFile before;
  {
    std::lock_guard lock(mutex);
    if (auto found = files.find(variant); found != files.end()) {
      const KnownFile &file = found->second;
      if (now && file.state.settled && file.state.sameFile(*now)) return file.variant;
      before = file;
    }
  }
  if (!now) {
    std::string names;
    for (const LibraryVariant &own : variantLibrary()) names += " " + own.name;
    throw std::invalid_argument("no variant or file '" + variant + "'; the library has:" + names);
  }
  KnownFile read;
  read.text = readSource(path, read.state);
  read.variant = before.variant && before.text == read.text ? before.variant : onlyOne(read.text, path, wanted);
  std::lock_guard lock(mutex);
  read.variant = known.try_emplace(read.variant->source(), read.variant).first->second;
  return (files[variant] = std::move(read)).variant;
}

}  // namespace

std::shared_ptr<const Variant> findVariant(const std::string &variant) {
  {
    std::lock_guard lock(mutex);
    if (auto found = known.find(variant); found != known.end()) return found->second;
  }
  if (auto made = parseText(variant)) {
    std::lock_guard lock(mutex);
    return known.try_emplace(variant, made).first->second;
  }
  const size_t colon = variant.rfind(".weft:");
  if (colon == std::string::npos) return fromFile(variant, "", variant);
  return fromFile(variant.substr(0, colon + 5), variant.substr(colon + 6), variant);
}

bool isLasting(const std::string &variant) {
  return variant.find('{') != std::string::npos ||
         std::ranges::count(variantLibrary(), variant, &LibraryVariant::name) > 0;
}

std::string lastingText(const std::string &variant) {
  return isLasting(variant) ? variant : findVariant(variant)->source();
}

}  // namespace weft
