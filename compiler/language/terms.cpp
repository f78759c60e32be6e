#include "compiler/terms.h"

#include <mutex>
#include <set>
#include <stdexcept>
#include <unordered_map>

#include "compiler/language/parser.h"

namespace weft {
namespace {

/// Of a text that was parsed and checked. What is found stays: texts are few, calls many.
const std::vector<TermCount> &countsOf(const Variant &variant) {
  static std::mutex mutex;
  static std::unordered_map<std::string, std::vector<TermCount>> known;
  std::lock_guard lock(mutex);
  const auto [found, added] = known.try_emplace(variant.source());
  if (added) found->second = termCounts(variant.source());
  return found->second;
}

}  // namespace

std::vector<std::string> termDims(const Variant &variant) {
  std::set<std::string> dims;
  for (const TermCount &own : countsOf(variant)) dims.insert(own.dim);
  return {dims.begin(), dims.end()};
}

std::string sourceWith(const Variant &variant, const std::map<std::string, int64_t> &sizes) {
  std::string text;
  int end = 0;
  for (const TermCount &own : countsOf(variant)) {
    const auto size = sizes.find(own.dim);
    if (size == sizes.end() || size->second < 1 || size->second > mostTerms)
      throw std::invalid_argument("variant '" + variant.name() + "': expected dim " + own.dim +
                                  ", a number of terms, from 1 to " + std::to_string(mostTerms) + ", got " +
                                  (size == sizes.end() ? "none" : std::to_string(size->second)));
    text += variant.source().substr(end, own.range.begin - end) + std::to_string(size->second);
    end = own.range.end;
  }
  return text + variant.source().substr(end);
}

}  // namespace weft
