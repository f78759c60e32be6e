// Dims with a meaning of their own. B: batch entries; H: heads of q; T: queries; S: keys of v. G, and G with a number
// behind it: heads that several heads of q share. G divides those of a number, which divide H: heads of one G share
// all that is shared.
#pragma once

#include <algorithm>
#include <string_view>

namespace weft {

inline bool isGroupDim(std::string_view dim) {
  return dim.starts_with('G') && std::ranges::all_of(dim.substr(1), [](char c) { return c >= '0' && c <= '9'; });
}
/// Heads, or groups of them.
inline bool isHeadDim(std::string_view dim) { return dim == "H" || isGroupDim(dim); }
/// Those that tensors begin with: b and h stand for them where a text leaves them out.
inline bool isLeadingDim(std::string_view dim) { return dim == "B" || isHeadDim(dim); }

}  // namespace weft
