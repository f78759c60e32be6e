// Gathers the mistakes of one text: the first ones, for a text can hold more than anyone reads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/diagnostic.h"

namespace weft {

class Diagnostics {
 public:
  static constexpr size_t most = 20;

  Diagnostics(std::string_view source, std::string_view file) : source(source), file(file) {}

  /// The one after the last says that more would follow; none after that is kept.
  void report(SourceRange range, std::string_view message, std::string_view hint = {}) {
    if (list.size() > most) return;
    const bool more = list.size() == most;
    list.push_back(more ? makeDiagnostic(source, file, range,
                                         "more mistakes follow; the first " + std::to_string(most) + " are shown")
                        : makeDiagnostic(source, file, range, message, hint));
  }
  bool full() const { return list.size() > most; }
  bool empty() const { return list.empty(); }
  size_t size() const { return list.size(); }
  std::vector<Diagnostic> take() { return std::move(list); }

 private:
  std::string_view source, file;
  std::vector<Diagnostic> list;
};

}  // namespace weft
