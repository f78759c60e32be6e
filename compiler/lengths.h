// A call of sequences with lengths of their own, and of the newest queries of each. A variant says so by the parameter
// `lengths`, an input int [B]: sequence b has the keys from 0 to lengths[b] - 1 of the S that are given, and its T
// queries are the last ones, at lengths[b] - T and so on; those before 0 see nothing. i, T and S in the text are those
// of the sequence.
#pragma once

#include <string>

#include "compiler/compiler.h"

namespace weft {

bool hasLengths(const Variant &variant);
/// The variant's text with the parameter `lengths`, which it does not have.
std::string sourceWithLengths(const Variant &variant);

}  // namespace weft
