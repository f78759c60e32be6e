// What it costs to compile a variant, from its checked tree: a text of some kilobytes could ask for minutes.
#pragma once

#include "compiler/language/ast.h"

namespace weft::ast {

/// Steps that a variant may have. One is about a millisecond of compiling the backward kernel, which takes longest;
/// variants in use have a few dozen.
constexpr int mostSteps = 4000;

/// Steps of the variant's largest kernel; counting ends soon after `mostSteps`.
int compileSteps(const Variant &variant);

}  // namespace weft::ast
