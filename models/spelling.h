// What messages are made of: names that people mistype and which one they most likely meant, lists, short numbers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// The name among `names` with the fewest edits from `text`; empty where none is near.
std::string nearestName(std::string_view text, const std::vector<std::string> &names);
/// "unknown KIND 'NAME'", what was meant where `meant` says so, and what lists them all.
std::string unknownName(const std::string &kind, const std::string &name, const std::string &meant,
                        const std::string &lister);
/// "a, b or c", with `last` before the last one.
std::string listed(const std::vector<std::string> &names, const std::string &last);
/// As few digits as tell it apart in six: "0.95", "1e-05".
std::string shortNumber(double value);

}  // namespace weft
