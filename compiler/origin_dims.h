// Dims of a call whose tensors are a piece of a longer sequence (see origin.h).
#pragma once

#include <array>

namespace weft {

/// Where the tensors' first query and first key stand in the whole sequence, and how many queries and keys that has.
inline constexpr std::array<const char *, 4> originDims{"first_query", "first_key", "all_queries", "all_keys"};

}  // namespace weft
