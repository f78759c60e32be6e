// Indices of the whole sequence in a variant whose tensors are a piece of it, or hold its newest queries.
#pragma once

#include <functional>

#include "compiler/language/ast.h"

namespace weft::ast {

/// In every statement of a checked variant: i becomes i + first_query and, of the keys of v, j becomes j + first_key, T
/// all_queries and S all_keys; of an index into a dim T or S that start is taken again. What a row has but once, a sink
/// and other keys than those of v, counts in the piece that holds the first key of all. Of a `select` nothing changes:
/// tiles are chosen of the whole sequence.
/// With `lengths`: i becomes i + lengths[b] - T, T and S lengths[b], and queries before 0 and keys from
/// lengths[b] on are masked.
void placeIndices(Variant &variant);

/// What a row has but once, a sink and other keys than those of v, counts where `holds(range)` does: in one of the
/// calls that share the row's keys.
void countOnce(Variant &variant, const std::function<ExprPtr(SourceRange)> &holds);

/// Of a read the indices that placeIndices has taken back to the piece: 1: that into T, 2: that into S.
int movedIndices(const Variant &variant, const Expr &read);

}  // namespace weft::ast
