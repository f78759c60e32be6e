// PTX text as words and signs, with line numbers.
#pragma once

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace weft::ptx {

class Reader {
 public:
  explicit Reader(const std::string &text) : text(text) {}

  int line = 1;

  [[noreturn]] void fail(const std::string &message) const { failAt(line, message); }
  [[noreturn]] static void failAt(int line, const std::string &message) {
    throw std::runtime_error("ptx line " + std::to_string(line) + ": " + message);
  }

  /// Past blanks and comments.
  void skip() {
    while (at < text.size()) {
      if (text[at] == '\n') ++line;
      if (std::isspace(static_cast<unsigned char>(text[at]))) {
        ++at;
      } else if (text.compare(at, 2, "//") == 0) {
        toLineEnd();
      } else {
        return;
      }
    }
  }
  void toLineEnd() {
    while (at < text.size() && text[at] != '\n') ++at;
  }
  bool done() {
    skip();
    return at >= text.size();
  }
  /// The next sign; 0 at the end.
  char peek() {
    skip();
    return at < text.size() ? text[at] : '\0';
  }
  bool accept(char c) {
    if (peek() != c || c == '\0') return false;
    ++at;
    return true;
  }
  void pass() { ++at; }
  void expect(char c) {
    if (!accept(c)) fail(std::string("expected '") + c + "', got '" + restOfLine() + "'");
  }
  /// Letters, digits, _ $ % . and :: from here on; empty where there are none.
  std::string name() {
    skip();
    const size_t begin = at;
    for (; at < text.size(); ++at) {
      if (at > begin && text.compare(at, 2, "::") == 0 && ++at) continue;
      if (!std::isalnum(static_cast<unsigned char>(text[at])) &&
          (!text[at] || std::string_view("_$%.").find(text[at]) == std::string_view::npos))
        break;
    }
    return text.substr(begin, at - begin);
  }
  /// A name, or a number with its sign.
  std::string word() { return accept('-') ? "-" + name() : name(); }
  std::string restOfLine() const {
    const size_t end = text.find('\n', at);
    return text.substr(at, std::min<size_t>(end == std::string::npos ? end : end - at, 200));
  }
  size_t position() const { return at; }
  std::string since(size_t begin) const { return text.substr(begin, at - begin); }

  /// "12", "-1", "0x1F", "0f3F800000" or "0d3FF0000000000000".
  static bool number(const std::string &own, uint64_t &value) {
    const bool negative = own[0] == '-';
    const std::string digits = own.substr(negative);
    if (digits.empty() || !std::isdigit(static_cast<unsigned char>(digits[0]))) return false;
    const char kind = digits.size() > 1 ? static_cast<char>(std::tolower(static_cast<unsigned char>(digits[1]))) : '\0';
    const bool bits = kind == 'f' || kind == 'd', hex = bits || kind == 'x';
    if (bits && (negative || digits[0] != '0' || digits.size() != (kind == 'f' ? 10u : 18u))) return false;
    char *end = nullptr;
    const char *begin = digits.c_str() + (hex ? 2 : 0);
    if (!std::isxdigit(static_cast<unsigned char>(*begin))) return false;
    errno = 0;
    value = std::strtoull(begin, &end, hex ? 16 : digits[0] == '0' ? 8 : 10);
    if (errno || *end) return false;
    if (negative) {
      if (value > uint64_t{1} << 63) return false;
      value = 0 - value;
    }
    return true;
  }
  /// A number from 0 to `most`.
  int64_t count(int64_t most) {
    const std::string own = name();
    uint64_t value = 0;
    if (own.empty() || !number(own, value) || value > static_cast<uint64_t>(most))
      fail("expected a number up to " + std::to_string(most) + ", got '" + own + "'");
    return static_cast<int64_t>(value);
  }

 private:
  const std::string &text;
  size_t at = 0;
};

}  // namespace weft::ptx
