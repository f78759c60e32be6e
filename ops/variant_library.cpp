#include "ops/variant_library.h"

#include <fstream>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <unordered_map>

namespace weft {
namespace {

std::shared_ptr<const Variant> onlyOne(const std::string &source, const std::string &file,
                                       const std::string &wanted) {
  ParseResult result = parse(source, file);
  if (!result.diagnostics.empty()) throw std::invalid_argument(render(result.diagnostics));
  std::string names;
  for (const auto &variant : result.variants) {
    if (variant->name() == wanted) return variant;
    names += " " + variant->name();
  }
  if (!wanted.empty())
    throw std::invalid_argument("no variant '" + wanted + "' in " + file + "; it holds:" + names);
  if (result.variants.size() != 1)
    throw std::invalid_argument("expected one variant in " + file + ", got" + names +
                                "; name one as path:name");
  return result.variants[0];
}

std::shared_ptr<const Variant> parseNamed(const std::string &variant) {
  if (variant.find('{') != std::string::npos) return onlyOne(variant, "<text>", "");
  for (const LibraryVariant &own : variantLibrary())
    if (own.name == variant) return onlyOne(own.text, own.name + ".weft", own.name);
  std::string path = variant, wanted;
  if (const size_t colon = variant.rfind(".weft:"); colon != std::string::npos) {
    path = variant.substr(0, colon + 5);
    wanted = variant.substr(colon + 6);
  }
  std::ifstream stream(path);
  if (!stream) {
    std::string names;
    for (const LibraryVariant &own : variantLibrary()) names += " " + own.name;
    throw std::invalid_argument("no variant or file '" + variant + "'; the library has:" + names);
  }
  std::stringstream text;
  text << stream.rdbuf();
  return onlyOne(text.str(), path, wanted);
}

}  // namespace

std::shared_ptr<const Variant> findVariant(const std::string &variant) {
  static std::mutex mutex;
  static std::unordered_map<std::string, std::shared_ptr<const Variant>> known;
  std::lock_guard lock(mutex);
  if (auto found = known.find(variant); found != known.end()) return found->second;
  return known.try_emplace(variant, parseNamed(variant)).first->second;
}

}  // namespace weft
