// A call of the newest query of each sequence, whose heads share keys: the heads of a group are the rows of a tile, and
// the group's keys are read once for all of them. A variant says so by the parameter `grouped`, beside `origin` or
// `lengths`: then H counts groups, T the heads of a group, and row i of group h is the query of head h T + i of the
// text. An input with a dim H has one T behind it, if it has none: [H] becomes [H, T], and both are the text's H.
#pragma once

#include <string>

#include "compiler/compiler.h"

namespace weft {

bool isGrouped(const Variant &variant);
/// Of a variant that has keys [B, G, S, D], and nothing that belongs to several queries.
bool canBeGrouped(const Variant &variant);
/// `text` with the parameter `grouped`: the variant's own, or the same up to its parameters, as sourceWithOrigin makes.
std::string sourceWithGrouped(const Variant &variant, std::string text);

}  // namespace weft
