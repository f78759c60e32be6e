// Random masks and weights of extreme inputs: no tile with a pair that counts is left out, no tile called full has one
// that the masks drop. Ints of all 32 bits in tables of one and two dims, floats with NaN and infinities. Conditions
// are made so that f32 has one answer: the oracle rounds as the kernels do. WEFT_FUZZ_SEED and WEFT_FUZZ_COUNT repeat
// and extend a run.
#include <gtest/gtest.h>

#include <limits>

#include "compiler/origin.h"
#include "tests/unit/call.h"
#include "tests/unit/environment_setting.h"
#include "tests/unit/inputs.h"

namespace weft::testing {
namespace {

class MaskGenerator {
 public:
  explicit MaskGenerator(uint64_t seed) : random(seed), floats(pick(3) == 0) {}

  std::string variant() {
    std::string text =
        "attention f(q: [B,H,T,D], k: [B,G,S,D], v: [B,G,S,E], ti: int [T], tj: int [B,S], t2: int [T,S], th: int "
        "[" +
        std::string(pick(2) ? "H" : "G2") + ",T,S], u: int [" + (pick(2) ? "H" : "G3") +
        "], n: int [],\n"
        "  xi: [H,T], xj: [S], x2: [T,S], c: [H], tau: [], f2: bool [T,S], fj: bool [S])\n{\n  let d = i - j\n";
    if (pick(2)) text += "  let a = " + whole(2) + "\n";
    if (pick(2)) text += "  let x = " + real(2) + "\n";
    named = true;
    hasWhole = text.find("let a") != std::string::npos;
    hasReal = text.find("let x") != std::string::npos;
    for (int at = 1 + pick(2); at > 0; --at) text += "  where " + condition(2) + "\n";
    text += "  score dot(q[i], k[j])\n";
    if (pick(3) == 0) text += "  weight " + weight() + "\n";
    return text + "}\n";
  }

  void fill(const InputInfo &input, std::vector<double> &values) {
    // A table is tame, wild or a bit of both.
    const int wild = pick(3);
    for (double &value : values) {
      const bool odd = wild == 1 || (wild == 2 && pick(8) == 0);
      if (input.isInt) value = odd ? extremeInt() : pick(21) - 10;
      if (input.isFloat && !input.isRow) value = odd ? extremeFloat() : (pick(65) - 32) * 0.25;
    }
  }

 private:
  std::mt19937_64 random;
  const bool floats;  ///< conditions on floats, many of them NaN
  bool named = false, hasWhole = false, hasReal = false;
  int pick(int count) { return static_cast<int>(random() % static_cast<uint64_t>(count)); }

  double extremeInt() {
    switch (pick(8)) {
      case 0: return std::numeric_limits<int32_t>::max();
      case 1: return std::numeric_limits<int32_t>::min();
      case 2: return std::numeric_limits<int32_t>::max() - pick(60);
      case 3: return std::numeric_limits<int32_t>::min() + pick(60);
      case 4: return pick(2) ? 1 << 30 : -(1 << 30);
      case 5: return static_cast<int32_t>(random());
      default: return pick(101) - 50;
    }
  }
  double extremeFloat() {
    const double infinity = std::numeric_limits<double>::infinity();
    if (floats && pick(2)) return std::numeric_limits<double>::quiet_NaN();
    switch (pick(9)) {
      case 0: return std::numeric_limits<double>::quiet_NaN();
      case 1: return infinity;
      case 2: return -infinity;
      case 3: return static_cast<float>(1e20);
      case 4: return static_cast<float>(-1e20);
      case 5: return std::numeric_limits<float>::max();
      case 6: return -0.0;
      default: return (pick(65) - 32) * 0.25;
    }
  }

  std::string wholeLeaf() {
    switch (pick(named && hasWhole ? 18 : 17)) {
      case 15: return "(if d >= 0 and d < T then ti[d] else 3)";
      case 16: return "(fj[j] + 2 * f2[i, j])";
      case 0:
      case 1: return "i";
      case 2:
      case 3: return "j";
      case 4: return "d";
      case 5: return "ti[i]";
      case 6: return "tj[j]";
      case 7: return "t2[i, j]";
      case 8: return "th[i, j]";
      case 9: return "u[h]";
      case 10: return "n";
      case 11: return std::to_string(pick(12));
      case 12: return pick(2) ? "(1073741824 * 2)" : "1073741824";
      case 13: return "ti[(i + j) mod T]";
      case 14: return "tj[clamp(d + 3, 0, S - 1)]";
      default: return "a";
    }
  }
  std::string whole(int depth) {
    if (depth == 0) return wholeLeaf();
    const std::string a = whole(depth - 1);
    auto b = [&] { return whole(pick(depth)); };
    switch (pick(19)) {
      case 0: return "(" + a + " + " + b() + ")";
      case 1: return "(" + a + " - " + b() + ")";
      case 2: return "(" + a + " * " + b() + ")";
      case 3: return "(" + a + " mod " + (pick(2) ? std::to_string(1 + pick(5)) : b()) + ")";
      case 4: return "(0 - " + a + ")";
      case 5: return "(-" + a + ")";
      case 6: return "abs(" + a + ")";
      case 7: return "min(" + a + ", " + b() + ")";
      case 8: return "max(" + a + ", " + b() + ")";
      case 9: return "clamp(" + a + ", " + b() + ", " + b() + ")";
      case 10: return "(if " + condition(0) + " then " + a + " else " + b() + ")";
      case 11: return "(" + a + " div " + (pick(2) ? std::to_string(1 + pick(5)) : b()) + ")";
      case 12: return "(" + a + " & " + b() + ")";
      case 13: return "(" + a + " | " + b() + ")";
      case 14: return "(" + a + " ^ " + b() + ")";
      case 15: return "(" + a + " << " + (pick(2) ? std::to_string(pick(5)) : b()) + ")";
      case 16: return "(" + a + " >> " + (pick(2) ? std::to_string(pick(5)) : b()) + ")";
      case 17: return std::string(pick(2) ? "floor(" : pick(2) ? "ceil(" : "round(") + real(depth - 1) + ")";
      default: return wholeLeaf();
    }
  }
  std::string realLeaf() {
    switch (pick(named && hasReal ? 9 : 8)) {
      case 0: return "xi[i]";
      case 1: return "xj[j]";
      case 2: return "x2[i, j]";
      case 3: return "c[h]";
      case 4: return "tau";
      case 5: return "0.75";
      case 6: return "(" + wholeLeaf() + " / 4)";
      case 7: return pick(4) ? "(d / 8)" : "inf";
      default: return "x";
    }
  }
  std::string real(int depth) {
    if (depth == 0) return realLeaf();
    const std::string a = real(depth - 1);
    auto b = [&] { return real(pick(depth)); };
    switch (pick(13)) {
      case 0: return "(" + a + " + " + b() + ")";
      case 1: return "(" + a + " - " + b() + ")";
      case 2: return "(" + a + " * " + b() + ")";
      case 3: return "(" + a + " / " + b() + ")";
      case 4: return "(-" + a + ")";
      case 5: return "abs(" + a + ")";
      case 6: return "min(" + a + ", " + b() + ")";
      case 7: return "max(" + a + ", " + b() + ")";
      case 8: return "clamp(" + a + ", " + b() + ", " + b() + ")";
      case 9: return "(if " + condition(0) + " then " + a + " else " + b() + ")";
      case 10: return "relu(" + a + ")";
      case 11: return "(" + a + " mod " + (pick(2) ? "3.0" : b()) + ")";
      default: return "triangle(" + a + ")";
    }
  }
  std::string condition(int depth) {
    if (depth > 0) {
      switch (pick(5)) {
        case 0: return "(" + condition(depth - 1) + " and " + condition(depth - 1) + ")";
        case 1: return "(" + condition(depth - 1) + " or " + condition(depth - 1) + ")";
        case 2: return "not " + condition(depth - 1);
        default: break;
      }
    }
    static const char *const comparisons[] = {" < ", " <= ", " > ", " >= ", " == ", " != "};
    const std::string sign = comparisons[pick(6)];
    switch (floats && pick(4) ? 7 : pick(9)) {
      case 0: return "f2[i, j]";
      case 1: return "fj[j]";
      case 2: return "(i >= j)";
      case 3:
      case 4:
      case 5: return "(" + whole(depth) + sign + whole(depth) + ")";
      case 8: return "(fj[j] == (" + whole(0) + sign + whole(0) + "))";
      // Far from any number that tanh or exp of a quarter gives.
      case 6: return pick(2) ? compared("tanh(x2[i, j])", sign, "0.3") : compared("exp(xj[j] - d / 4)", sign, "1.7");
      default: return compared(real(depth), sign, real(depth));
    }
  }
  /// Two floats. The language refuses `==` of computed ones.
  static std::string compared(const std::string &a, const std::string &sign, const std::string &b) {
    if (sign != " == " && sign != " != ") return "(" + a + sign + b + ")";
    const std::string same = "(" + a + " <= " + b + " and " + a + " >= " + b + ")";
    return sign == " == " ? same : "(not " + same + ")";
  }
  std::string weight() {
    switch (pick(4)) {
      case 0: return "clamp((u[h] - d) / 4, 0, 1)";
      case 1: return "clamp((u[h] - d) / 4, 0, 1) * relu(xj[j])";
      case 2: return "relu(c[h]) * abs(x2[i, j])";
      default: return "max(" + real(1) + ", 0)";
    }
  }
};

TEST(PlanFuzz, tilesAreSafe) {
  const uint64_t first = setting("WEFT_FUZZ_SEED", 1), count = setting("WEFT_FUZZ_COUNT", 300);
  uint64_t compared = 0, left = 0, full = 0, tiles = 0;
  for (uint64_t seed = first; seed < first + count && !HasFailure(); ++seed) {
    MaskGenerator generator(seed);
    const std::string text = generator.variant();
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + text);
    auto variant = variantOf(text);
    const Shape shape{1,  4, 1, 17 + static_cast<int64_t>(seed * 7 % 40), 17 + static_cast<int64_t>(seed * 11 % 40),
                      16, 16};
    auto inputs = randomInputs(*variant, shape, seed);
    for (const InputInfo &input : variant->inputs()) generator.fill(input, inputs[input.name].values);
    if (seed % 4 == 3) {
      // A piece of a longer sequence, near its beginning or where positions end.
      variant = variantOf(sourceWithOrigin(*variant));
      const double far = seed % 8 == 3 ? 0 : 0x1p28 - 100;
      inputs["origin"] = {{4},
                          {far + static_cast<double>(seed % 41), far + static_cast<double>(seed % 37), 0x1p28, 0x1p28}};
    }
    CallOptions options;
    options.tileQ = options.tileK = 16;
    options.plansOnly = true;
    const Outcome got = call(variant, inputs, {}, options);
    for (int64_t head = 0; head < shape.H; ++head) {
      const auto pairs = reference::pairs(variant->tree(), inputs, 0, head);
      const int64_t columns = (shape.S + 15) / 16;
      for (int64_t i = 0; i < shape.T; ++i)
        for (int64_t j = 0; j < shape.S; ++j) {
          const int tile = got.tiles[head][i / 16 * columns + j / 16];
          const reference::Kept kept = pairs[i * shape.S + j];
          ASSERT_FALSE(kept == reference::Kept::Counts && tile == 0)
              << "pair " << i << ", " << j << " of head " << head << " is left out";
          ASSERT_FALSE(kept == reference::Kept::Dropped && tile == 2)
              << "pair " << i << ", " << j << " of head " << head << " is in a full tile";
        }
      for (int tile : got.tiles[head]) {
        ++tiles;
        left += tile == 0;
        full += tile == 2;
      }
    }
    ++compared;
  }
  std::printf("fuzz: plans of %llu variants, seeds %llu to %llu: %.0f %% of tiles left out, %.0f %% full\n",
              static_cast<unsigned long long>(compared), static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + count - 1), 100.0 * left / tiles, 100.0 * full / tiles);
  EXPECT_EQ(compared, count);
  // An analysis that knew nothing would keep every tile.
  EXPECT_GT(left, tiles / 20);
  EXPECT_GT(full, tiles / 100);
}

}  // namespace
}  // namespace weft::testing
