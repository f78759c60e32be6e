// Random well-typed variants against the oracle, and random and mutated texts into the parser.
// Seeds are printed; WEFT_FUZZ_SEED and WEFT_FUZZ_COUNT repeat and extend a run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "compiler/lengths.h"
#include "compiler/normalizers/facts.h"
#include "compiler/origin.h"
#include "tests/unit/call.h"
#include "tests/unit/environment_setting.h"
#include "tests/unit/hostile_text.h"
#include "tests/unit/inputs.h"
#include "tests/unit/terms.h"

namespace weft::testing {
namespace {

/// Writes expressions whose values and slopes stay moderate, so that f32 can follow f64.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random(seed) {}

  std::string variant() {
    // A list for each query and keys by group: the heads of a group are the rows of a tile.
    const int lists = pick(8);
    const bool given = lists >= 3 && pick(4) == 0;
    const std::string heads = lists == 0 ? "G" : groups("H"), keys = lists == 0 || pick(4) ? "G" : groups("G2"),
                      list = lists == 0   ? "[B,T,N]"
                             : lists == 1 ? "[B,H,T,N]"
                                          : "[B,H,N]";
    std::string text = "attention f(q: [B,H,T,D], k: [B," + keys + ",S,D], v: [B,G,S,E], u: [B,H,T,R], w: [B," + heads +
                       ",S,R],\n"
                       "  c: [H], r: [B,H,T], x: [" +
                       groups("G") + ",S], table: [" + groups("H") +
                       ",N], tau: [], flag: bool [B,S], tag: int [T], pick: int [H,W], warp: [W],\n"
                       "  sk: [B," +
                       keys + ",M,D], sv: [B,G,M,E], sw: [B," + heads +
                       ",M,R], sx: [G,M], sflag: bool [B,M], marks: int [P] in 0 .. S rising, list: int " + list +
                       " in 0 .. S,\n  map: bool [" + groups("H") + ",Z], const near: int = 12, const half = 0.5)\n{\n";
    text += "  let d = i - j\n  def ramp(e, f) = clamp((e + half) / f, 0, 1)\n";
    if (pick(2)) text += "  let z = " + number(2) + "\n";
    hasLet = text.find("let z") != std::string::npos;
    for (int at = pick(3); at > 0; --at) text += "  where " + condition(2) + "\n";
    text += "  score dot(q[i], k[j]) / sqrt(D)" + std::string(pick(2) ? " + " + number(3) : "") + "\n";
    // Half of all a softmax, the others any; but the keys of `also` have no order.
    const auto all = allNormalizers();
    normalizer = pick(2) ? all[0] : all[pick(static_cast<int>(all.size()))];
    if (normalizer->weight && pick(2)) text += "  weight " + positive() + "\n";
    if (pick(3) == 0) text += "  gate " + number(2) + "\n";
    text += std::string("  normalize ") + normalizer->name + "\n";
    if (normalizer->sink && pick(3) == 0) text += "  sink c[h]\n";
    if (!normalizer->ordered && pick(3) == 0) text += also();
    if (!normalizer->ordered && lists < 3) text += lists < 2 ? "  keys = list[i]\n" : "  keys = list[h]\n";
    if (given)
      text += std::string("  select tiles(16, ") + (pick(2) ? "16" : "32") +
              ") {\n    keep map[h, (3 * (i div 16) + j div 32) mod Z]\n    keep diagonal\n" +
              (pick(2) ? "    keep first 1\n" : "") + "  }\n";
    return text + "}\n";
  }

 private:
  /// What an input's heads may be: these, half of all times, or those that further groups share.
  std::string groups(const char *usual) {
    switch (pick(4)) {
      case 0: return "G2";
      case 1: return "G3";
      default: return usual;
    }
  }
  /// The same kinds of statements of other keys: names of v's keys become theirs.
  std::string also() {
    hasLet = false;
    std::string text = "  also sv {\n    let d = i - j\n    score dot(q[i], k[j]) / sqrt(D) + " + number(1) + "\n";
    if (pick(2)) text += "    where " + condition(2) + "\n";
    if (normalizer->weight && pick(2)) text += "    weight " + positive() + "\n";
    if (pick(3) == 0) text += "    gate " + number(1) + "\n";
    for (const char *name : {"k[j]", "w[j]", "x[j]", "flag[j]"})
      for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 2)) text.insert(at, "s");
    return text + "  }\n";
  }

  std::mt19937_64 random;
  const NormalizerFacts *normalizer = nullptr;
  bool hasLet = false;
  int pick(int count) { return static_cast<int>(random() % static_cast<uint64_t>(count)); }

  std::string leaf() {
    switch (pick(hasLet ? 12 : 11)) {
      case 0: return "c[h]";
      case 1: return "r[i]";
      case 2: return "x[j]";
      case 3: return "table[h, d + S]";
      case 4: return "tau";
      case 5: return "dot(u[i], w[j]) / 4";
      case 6: return "0.37";
      case 7: return "(d / 16.0)";
      case 8: return pick(2) ? "(segment(marks, j) / 8.0)" : "(segment(marks, i) / 8.0)";
      case 9: return pick(2) ? "((tag[i] | j << 2) / 300.0)" : "((i ^ j) / 64.0)";
      case 10: return pick(2) ? "((d & 12) / 8.0)" : "(((i >> 2) - (j >> 1) | 1) / 32.0)";
      default: return "z";
    }
  }
  std::string number(int depth) {
    if (depth == 0) return leaf();
    const std::string a = number(depth - 1);
    switch (pick(20)) {
      case 17: return "(" + a + " * ramp(d + near, 32.0))";
      case 18: return "(if r[i] < inf then " + a + " else inf)";
      case 0: return "(" + a + " + " + number(depth - 1) + ")";
      case 1: return "(" + a + " - " + number(depth - 1) + ")";
      case 2: return "(0.5 * " + a + " * tanh(" + number(depth - 1) + "))";
      case 3: return "tanh(" + a + ")";
      case 4: return "sigmoid(" + a + ")";
      case 5: return "sin(" + a + ")";
      case 6: return "cos(" + a + ")";
      case 7: return "softplus(" + a + ")";
      case 8: return "log1p(exp(tanh(" + a + ")))";
      case 9: return "sqrt(1.5 + cos(" + a + "))";
      case 10: return "(if " + condition(1) + " then " + a + " else 0.1)";
      case 11: return "(" + a + " / (2 + sin(" + number(depth - 1) + ")))";
      case 12: return "erf(" + a + ")";
      case 13: return "log2(1.5 + sin(" + a + "))";
      case 14: return "tan(0.7 * tanh(" + a + "))";
      // Behind a condition an index may leave its dim.
      case 15: return "(0.5 * " + a + " * tanh(sum(n < W, warp[n] * sin(n + d / 16.0))))";
      case 16: return "(if d >= 0 and d < N then table[h, d] else " + a + ")";
      default: return leaf();
    }
  }
  std::string positive() {
    switch (pick(4)) {
      case 0: return "sigmoid(" + number(2) + ")";
      case 1: return "clamp((20 + 8 * c[h] - d) / 16, 0, 1)";
      case 2: return "exp(0.2 * tanh(" + number(1) + "))";
      default: return "clamp((20 + 8 * c[h] - d) / 16, 0, 1) * sigmoid(" + number(1) + ")";
    }
  }
  std::string condition(int depth) {
    if (depth > 1) {
      switch (pick(4)) {
        case 0: return "(" + condition(1) + " and " + condition(1) + ")";
        case 1: return "(" + condition(1) + " or " + condition(1) + ")";
        case 2: return "not " + condition(1);
        default: break;
      }
    }
    switch (pick(17)) {
      case 13: return "all(n < 3, abs(tag[i] + 9 * n - j) > 2)";
      case 14: return "(ramp(d, 24.0) < half or d < near)";
      case 15: return "(d >= 0 and d < N and table[h, d] > 0.0)";
      case 0: return "(i >= j)";
      case 1: return "(d < 40)";
      case 2: return "(d mod 3 != 1)";
      case 3: return "flag[j]";
      case 4: return "(tag[i] > j - 10)";
      case 5: return "(j < 5 or h == 1)";
      case 6: return "(i div 8 >= j div 7)";
      case 7: return "((tag[i] & 6 ^ j >> 2) != 3)";
      case 8: return "(flag[j] == (d < 25))";
      case 9: return "(flag[j] + (d << 1 < 50) > 0)";
      case 10: return "any(n < 3, abs(tag[i] + 9 * n - j) < 4)";
      case 11: return "(segment(marks, i) == segment(marks, j))";
      case 12: return "(d < 12 or any(n < W, abs(9 * pick[h, n] - j) < 5))";
      default: return "(floor(i / 8.0) >= floor(j / 8.0))";
    }
  }
};

TEST(Fuzz, randomVariantsMatchTheReference) {
  const uint64_t first = setting("WEFT_FUZZ_SEED", 1), count = setting("WEFT_FUZZ_COUNT", 40);
  int compared = 0, ofLengths = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const std::string text = Generator(seed).variant();
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + text);
    ParseResult parsed = parse(text, "fuzz");
    ASSERT_TRUE(parsed.diagnostics.empty()) << render(parsed.diagnostics);
    auto variant = parsed.variants.at(0);
    // In bf16 rows of whole and of half steps of AMX, which takes them where they are.
    const bool half = seed % 3 == 1;
    const int64_t width = half ? 16 << seed / 3 % 3 : 16;
    Shape shape{1 + static_cast<int64_t>(seed % 2),
                seed % 8 < 3 ? 4 : 2,
                1 + static_cast<int64_t>(seed / 2 % 2),
                20 + static_cast<int64_t>(seed * 7 % 60),
                20 + static_cast<int64_t>(seed * 11 % 60),
                width,
                width};
    auto inputs = randomInputs(*variant, shape, seed);
    // Few terms: a text has as many steps as the sizes say.
    for (const char *name : {"pick", "warp"}) {
      reference::Array &own = inputs[name];
      own.shape.back() = 2 + static_cast<int64_t>(seed % 2);
      own.values.resize(name == std::string("pick") ? own.shape[0] * own.shape[1] : own.shape[0]);
    }
    variant = withTerms(variant, inputs);
    const auto roomFor = [&](double positions) {
      for (const char *name : {"table", "list"}) {
        reference::Array &own = inputs[name];
        own.shape.back() = static_cast<int64_t>(positions) + 1;
        int64_t count = 1;
        for (const int64_t size : own.shape) count *= size;
        const std::vector<double> few = own.values;
        for (size_t at = few.size(); at < static_cast<size_t>(count); ++at) own.values.push_back(few[at % few.size()]);
        own.values.resize(static_cast<size_t>(count));
      }
    };
    if (seed % 4 == 1) {
      // Sequences with lengths of their own, where the variant can have them.
      const ParseResult own = parse(sourceWithLengths(*variant), "fuzz");
      if (own.diagnostics.empty()) {
        variant = own.variants.at(0);
        inputs["lengths"] = {{shape.B}, {}};
        for (int64_t b = 0; b < shape.B; ++b)
          inputs["lengths"].values.push_back(static_cast<double>((seed * 17 + 31 * b) % (shape.S + 1)));
        roomFor(static_cast<double>(shape.T + shape.S));
        ++ofLengths;
      }
    }
    if (seed % 4 == 3) {
      // A piece of a longer sequence, whose table has room for all distances; lists are as long.
      variant = variantOf(sourceWithOrigin(*variant));
      const auto firstQuery = static_cast<double>(seed * 13 % 90), firstKey = static_cast<double>(seed * 5 % 80);
      const double queries = firstQuery + static_cast<double>(shape.T) + 3,
                   keys = firstKey + static_cast<double>(shape.S);
      inputs["origin"] = {{4}, {firstQuery, firstKey, queries, keys}};
      roomFor(queries + keys);
    }
    if (half)
      for (const InputInfo &input : variant->inputs())
        if (input.isRow)
          for (double &value : inputs[input.name].values) value = rounded(ElementType::BF16, value);
    for (double &value : inputs["tag"].values) value = static_cast<double>(static_cast<int64_t>(value * 30));
    auto cotangent = randomCotangent(shape, seed);
    if (half)
      for (double &value : cotangent) value = rounded(ElementType::BF16, value);
    auto want = reference::evaluate(variant->tree(), inputs, cotangent);
    CallOptions options{16 << seed % 3, 16 << seed / 3 % 3, seed % 2 == 0 ? BackwardForm::TwoPass : BackwardForm::Fused,
                        2};
    if (half) options.type = ElementType::BF16;
    if (seed % 4 == 1 || seed % 7 == 0) options.schedule.blockRows = 1;  // as in decoding: queries one by one
    auto compare = [&] {
      auto got = call(variant, inputs, cotangent, options);
      EXPECT_FALSE(got.outside);
      // Nested functions amplify rounding: 10 times the tolerance of the library's variants. In bf16 what is wrong is
      // far beyond what is rounded.
      EXPECT_LT(relativeError(got.o, want.o.values), half ? 0.05 : 1.2e-4);
      for (auto &[name, gradient] : want.gradients)
        EXPECT_LT(relativeError(got.gradients.at(name), gradient.values), half ? 0.1 : 5e-4)
            << name << ", " << weft::name(options.form);
    };
    compare();
    // Sums of programs that meet, one of five times.
    if (seed % 5 == 0) {
      options.device = parseDevice("ptx-emulator");
      constexpr BackwardForm forms[] = {BackwardForm::FusedKeys, BackwardForm::FusedQueries, BackwardForm::TwoPass};
      options.form = forms[seed / 5 % 3];
      options.tileQ = std::min(options.tileQ, 32);
      options.tileK = std::min(options.tileK, 32);
      compare();
    }
    ++compared;
    if (HasFailure()) break;
  }
  if (count >= 40) EXPECT_GT(ofLengths, 0);
  std::printf("fuzz: %d variants compared, %d of sequences with lengths of their own, seeds %llu to %llu\n", compared,
              ofLengths, static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + count - 1));
  EXPECT_GT(compared, 0);
}

TEST(Fuzz, brokenTextsGiveDiagnosticsOnly) {
  const uint64_t first = setting("WEFT_FUZZ_SEED", 1), count = 3000;
  uint64_t refused = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    std::mt19937_64 random(seed);
    std::string text = Generator(seed).variant();
    if (seed % 4 == 0) {
      text.assign(random() % 200, ' ');
      for (char &c : text) c = static_cast<char>(random());
    } else {
      for (uint64_t edit = 1 + random() % 6; edit > 0 && !text.empty(); --edit) {
        const size_t at = random() % text.size();
        const uint64_t kind = random() % 3;
        if (kind == 0) text.erase(at, 1 + random() % 8);
        else if (kind == 1) text.insert(at, 1, "()[]{}:,=+-*/<>.0a\n$"[random() % 20]);
        else text.insert(at, text.substr(random() % text.size(), random() % 20));
      }
    }
    ParseResult result = parse(text, "fuzz");
    refused += !result.diagnostics.empty();
    for (const Diagnostic &diagnostic : result.diagnostics) {
      ASSERT_GE(diagnostic.line, 1);
      ASSERT_FALSE(render(diagnostic).empty());
    }
  }
  // Kinds that are hard on a compiler; large ones where the count is asked for.
  const uint64_t hostile = setting("WEFT_FUZZ_COUNT", 140), bytes = std::getenv("WEFT_FUZZ_COUNT") ? 65536 : 6000;
  for (uint64_t seed = first; seed < first + hostile; ++seed) {
    HostileText texts(seed);
    const std::string text = texts.text(static_cast<int>(seed % HostileText::kinds), bytes);
    const ParseResult result = parse(text, "hostile");
    ASSERT_LE(result.diagnostics.size(), 21u);
    for (const Diagnostic &diagnostic : result.diagnostics) ASSERT_LE(render(diagnostic).size(), 2000u) << seed;
  }
  std::printf("fuzz: %llu of %llu texts refused\n", static_cast<unsigned long long>(refused),
              static_cast<unsigned long long>(count));
  EXPECT_GT(refused, count / 4);
}

}  // namespace
}  // namespace weft::testing
