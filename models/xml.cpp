#include "models/xml.h"

#include <cstdint>

namespace weft {

/// Bytes of the UTF-8 character at the front of `text`; 0 where it is none that XML may hold.
static size_t characterLength(std::string_view text) {
  const auto byte = [&](size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return first >= 0x20 || first == '\t' || first == '\n' || first == '\r' ? 1 : 0;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  uint32_t code = first & (0xff >> (length + 1));
  for (size_t at = 1; at < length; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(at) & 0x3f);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code < 0xe000, none = code == 0xfffe || code == 0xffff || code > 0x10ffff;
  return overlong || surrogate || none ? 0 : length;
}

std::string escapeXml(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = characterLength(text);
    switch (text[0]) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += length ? text.substr(0, length) : "\xef\xbf\xbd";
    }
    text.remove_prefix(length ? length : 1);
  }
  return out;
}

}  // namespace weft
