// A call whose tensors are a piece of a longer sequence: i, j, T and S are those of the whole. A variant says so by the
// parameter `origin`; then its kernels take four numbers of the call as dims.
#pragma once

#include <set>
#include <string>

#include "compiler/compiler.h"
#include "compiler/normalizers/facts.h"
#include "compiler/origin_dims.h"

namespace weft {

bool hasOrigin(const Variant &variant);
/// The variant's text with the parameter `origin`, which it does not have; or `text`, the same up to its parameters.
std::string sourceWithOrigin(const Variant &variant);
std::string sourceWithOrigin(const Variant &variant, std::string text);
/// The text as it was before sourceWithOrigin; of a variant that says `origin` elsewhere, as it is.
std::string sourceWithoutOrigin(const Variant &variant);

/// Whether a query's keys may come piece by piece: with lists of keys, which name them all, not.
Joining joiningOf(const Variant &variant);
/// Rows, operands of products, of which the text also reads single numbers, as in q[i, 0]: what is kept may hang on
/// them.
std::set<std::string> rowsReadAlone(const Variant &variant);
/// True where an entry of a query is read elsewhere than at the pair's own query, as in x[i - 1] or doc[b, j].
bool readsOtherQueries(const Variant &variant);
/// True where a row has something but once, whatever keys it has: a sink, or other keys than those of v.
bool hasOnce(const Variant &variant);

}  // namespace weft
