// Names that people mistype: which one they most likely meant.
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

}  // namespace weft
