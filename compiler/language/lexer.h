// Text to tokens: names, numbers and punctuation; spaces, line breaks and `//` comments vanish.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "compiler/diagnostic.h"

namespace weft {

struct Token {
  enum class Kind { Name, Integer, Real, Punctuation, Bad, End };
  Kind kind;
  std::string text;
  SourceRange range;
};

/// Never fails: a byte that starts no token becomes a Bad token. Always ends with End.
std::vector<Token> tokenize(std::string_view source);

}  // namespace weft
