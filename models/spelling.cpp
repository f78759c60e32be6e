#include "models/spelling.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>

namespace weft {

/// Insertions, deletions and replacements from one to the other (Levenshtein).
static size_t edits(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t at = 0; at <= b.size(); ++at) row[at] = at;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearestName(std::string_view text, const std::vector<std::string> &names) {
  std::string nearest;
  // Half of the letters wrong is no slip.
  size_t fewest = text.size() / 2 + 1;
  if (text.size() > 100) return nearest;
  for (const std::string &name : names)
    if (const size_t count = edits(text, name); count < fewest) {
      fewest = count;
      nearest = name;
    }
  return nearest;
}

std::string unknownName(const std::string &kind, const std::string &name, const std::string &meant,
                        const std::string &lister) {
  return "unknown " + kind + " '" + name + "'" + (meant.empty() ? ";" : "; did you mean '" + meant + "'?") + " `" +
         lister + "` lists them all";
}

std::string listed(const std::vector<std::string> &names, const std::string &last) {
  std::string text;
  for (size_t at = 0; at < names.size(); ++at)
    text += (at == 0 ? "" : at + 1 < names.size() ? ", " : " " + last + " ") + names[at];
  return text;
}

std::string shortNumber(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace weft
