// Texts that no one means, of kinds that are hard on a compiler: deep, long, doubling, huge, many, or no text at all.
#pragma once

#include <random>
#include <string>

namespace weft::testing {

class HostileText {
 public:
  static constexpr int kinds = 15;

  explicit HostileText(uint64_t seed) : random(seed) {}

  /// About `size` bytes of one kind, whole or cut off, and now and then with bytes in it that are no text.
  std::string text(int kind, size_t size) {
    std::string result = make(kind, size);
    if (pick(4) == 0) result.resize(random() % (result.size() + 1));
    if (pick(4) == 0)
      for (int edit = 1 + pick(20); edit > 0; --edit) {
        const std::string bytes[] = {std::string(1, '\0'), "\xFF", "\xC3",    "\xE2\x80\xAE", "\xF0\x9F\x98\x80",
                                     "\xED\xA0\x80",       "\r",   "\x1B[2J", "\xC3\xA9",     "\t"};
        result.insert(random() % (result.size() + 1), bytes[pick(10)]);
      }
    return result;
  }

 private:
  std::mt19937_64 random;
  int pick(int count) { return static_cast<int>(random() % static_cast<uint64_t>(count)); }

  static constexpr const char *head =
      "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], r: [B, H, T], x: [B, H, S], table: [H, N], n: "
      "int [S], f: bool [S], "
      "sk: [B, G, M, D], sv: [B, G, M, E]) {\n";

  template <class One>
  static std::string repeated(size_t size, One one) {
    std::string text;
    for (int at = 0; text.size() < size; ++at) text += one(at);
    return text;
  }
  /// let a1 = a0 + a0 let a2 = a1 + a1 ...: as a tree it has no end.
  static std::string doubling(size_t size, const std::string &first, const std::string &op, const std::string &use) {
    int last = 0;
    const std::string lets = repeated(size, [&](int at) {
      last = at + 1;
      const std::string before = "a" + std::to_string(at);
      return " let a" + std::to_string(last) + " = " + before + " " + op + " " + before + "\n";
    });
    return head + ("let a0 = " + first + lets) + use + " a" + std::to_string(last);
  }

  std::string make(int kind, size_t size) {
    const std::string score = " score dot(q[i], k[j]) ";
    switch (kind) {
      case 0: {
        const char *opens[] = {"(", "sin(", "if true then ", "r[", "if ", "max(1, ", "x[j + (", "- (", "not ("};
        return head + std::string("score ") + repeated(size, [&](int) { return opens[pick(9)]; }) + "1";
      }
      case 1: {
        const char *parts[] = {" + r[i]", " - 2",      " * x[j]", " / 3.5", " + sin(r[i])", " - table[h, i - j]",
                               " mod 5",  " + (i - j)"};
        return head + std::string("score 1") + repeated(size, [&](int) { return parts[pick(8)]; }) + " }";
      }
      case 2: return doubling(size, "r[i]", pick(2) ? "+" : "*", score + "weight") + " }";
      case 3:
        return doubling(
                   size, "i - j", pick(2) ? "+" : "-",
                   score +
                       "select tiles(64, 64) { keep topk(dot(mean_before(q), mean(k)), 3) keep diagonal } where 0 <=") +
               " }";
      case 4:
        return doubling(size, "i >= j", pick(2) ? "and" : "or",
                        score + "select tiles(64, 64) { keep topk(dot(mean(q), mean(k)), 3) } where") +
               " }";
      case 5: return doubling(size, "T * 0.5", "*", "score dot(q[i], k[j]) *") + " }";
      case 6:
        return head + std::string("score 1") +
               repeated(size,
                        [&](int) {
                          return " + " + std::to_string(random()) + std::string(pick(60), '9') +
                                 (pick(2) ? "e" + std::to_string(random() % 100000) : "") + (pick(3) ? "" : ".5");
                        }) +
               " }";
      case 7: {
        const std::string name(size, 'x');
        return pick(2) ? head + ("score " + name + " }")
                       : "attention " + name + "(q: [B, H, T, " + name + "]) { score 1 }";
      }
      case 8: {
        const char *parts[] = {" where i >= j", " where f[j]", " let a = 1",      " score 1",     " weight 2",
                               " sink r[h]",    " keys = n",   " normalize none", " dropout 0.1", " gate x[j]"};
        return head + repeated(size, [&](int) { return parts[pick(10)]; }) + " }";
      }
      case 9:
        return "attention t(q: [B, H, T, D], v: [B, H, S, E]" +
               repeated(size,
                        [&](int at) {
                          return ", a" + std::to_string(at) + ": [" +
                                 (pick(2) ? "H" : repeated(pick(200), [](int) { return "H, "; }) + "H") + "]";
                        }) +
               ") { score 1 }";
      case 10: {
        const bool broken = pick(2);
        return repeated(size, [&](int) {
          return std::string("attention a(q:[B,H,T,D],v:[B,H,S,E]){score 1") + (broken ? " oops}" : "}");
        });
      }
      case 11:
        return head + score +
               repeated(size,
                        [&](int) {
                          return pick(2) ? " also sv { score dot(q[i], sk[j]) where j < i }"
                                         : " also sv { let a = i score 1 }";
                        }) +
               " }";
      case 12: {
        const char *keeps[] = {
            " keep first 1", " keep topk(dot(mean(q), mean(k)), 3)", " keep near(dot(max(q), min(k)), 1)",
            " keep i > j",   " let a = dot(mean(q), last(k))",       " } select tiles(16, 16) {"};
        return head + score + " select tiles(64, 64) {" + repeated(size, [&](int) { return keeps[pick(6)]; }) + " } }";
      }
      case 13: {
        int last = 0;
        const std::string definitions = repeated(size, [&](int at) {
          const std::string before = "f" + std::to_string(pick(2) ? at : pick(at + 1));
          last = at + 1;
          return " def f" + std::to_string(last) +
                 "(x) = " + (pick(3) ? before + "(" + before + "(x))" : "if x > 0 then r[i] else " + before + "(x)");
        });
        return std::string(head) + " def f0(x) = x + 1" + definitions + score + " gate f" + std::to_string(last) +
               "(1) }";
      }
      default: {
        std::string text(size, ' ');
        for (char &c : text) c = static_cast<char>(random());
        return pick(2) ? text : head + text;
      }
    }
  }
};

}  // namespace weft::testing
