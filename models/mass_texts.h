// The texts by which the attention mass that a variant keeps is measured: of softmax variants, whose log-sum-exps tell
// the masses of what they see.
#pragma once

#include <set>
#include <string>

#include "compiler/compiler.h"

namespace weft {

/// The keys that a variant keeps are those that its masks (`where`), its weight, where that is above 0, and its
/// `select` leave. Exact attention is the softmax of its scores over all keys up to the query. A weight beside a
/// `select` is part of exact attention, any other one a mask. A `sink`, a `gate` and `dropout` have no part in masses:
/// these are shares of what the keys get.
///
/// Each text has the variant's inputs and the mask i >= j beside its own.
struct MassTexts {
  std::string exact;    ///< all keys up to the query
  std::string kept;     ///< the keys that are kept
  std::string counted;  ///< the same with scores of 0: the log-sum-exp of a row is the log of their number
  std::string score;    ///< of exact attention, without spaces and `let`s: variants of equal ones compare tokens alike
  bool weighted;        ///< exact attention has a weight
  /// Inputs that what is kept hangs on, and that scores do not: those that can be dials.
  std::set<std::string> selecting;
};

/// Throws std::invalid_argument, which says what is expected, of a variant without a softmax, with lists of keys or
/// with keys beside those of v.
MassTexts massTexts(const Variant &variant);

}  // namespace weft
