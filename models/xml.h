// Text inside XML and SVG.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// `text` as the content of an element or of a quoted attribute: markup is escaped; bytes that are not UTF-8 and
/// characters that XML cannot hold become U+FFFD.
std::string escapeXml(std::string_view text);

}  // namespace weft
