// A call of the newest query of each sequence, whose heads share keys: the heads of a group are the rows of a tile, and
// the group's keys are read once for all of them. A variant says so by the parameter `grouped`, beside `origin` or
// `lengths`: then H counts groups, T the heads of a group, and row i of group h is the query of head h T + i of the
// text. An input with a dim H has one T behind it, if it has none: [H] becomes [H, T], and both are the text's H.
//
// With the parameter `pieces`, too, H counts pieces of the keys of each group, of 2,048 keys each: head h sees piece
// h mod (H / G) of group h div (H / G). Where a piece ends hangs neither on the call nor on the machine. What a row has
// but once, a sink and the keys of `also`, counts in the first piece. Results of pieces are joined by their
// log-sum-exps.
#pragma once

#include <string>

#include "compiler/compiler.h"

namespace weft {

inline constexpr int keysOfPiece = 2048;

bool isGrouped(const Variant &variant);
/// Of a variant that has keys [B, G, S, D], and nothing that belongs to several queries.
bool canBeGrouped(const Variant &variant);
/// Of a variant that can be grouped, and whose masks leave no key out for being far.
bool canBeInPieces(const Variant &variant);
/// The variant's text with the parameter `grouped`, and `pieces`.
std::string sourceWithGrouped(const Variant &variant, bool pieces);

}  // namespace weft
