// SHA-256 (FIPS 180-4): names files by what they hold and finds any change in them.
#pragma once

#include <string>
#include <string_view>

namespace weft {

/// 64 hexadecimal digits.
std::string sha256(std::string_view text);

}  // namespace weft
