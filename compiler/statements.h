// The text of a checked variant, parted into its statements: what makes another text of it.
#pragma once

#include <string>
#include <vector>

#include "compiler/compiler.h"

namespace weft {

/// Names, numbers and signs, without spaces and comments.
using Words = std::vector<std::string>;

struct Statement {
  std::string keyword;  ///< "let", "where", "select", ...
  Words words;          ///< all of it, the keyword first
  Words behind() const { return {words.begin() + 1, words.end()}; }
};

struct StatementText {
  Words head;                         ///< up to the brace
  std::vector<Statement> statements;  ///< as they follow each other; those inside a select or an also are its words
};

StatementText statementsOf(const Variant &variant);

/// The words with `between` between them: a text again.
std::string joined(const Words &words, const char *between = " ");

}  // namespace weft
