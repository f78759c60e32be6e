// Each mistake has its own message, at its place, and says what would be right.
#include <gtest/gtest.h>

#include "compiler/terms.h"

namespace weft {
namespace {

const std::string head =
    "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], r: [B, H, T], n: int [S])\n{\n";

const std::string also =
    "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], sk: [B, G, M, D], sv: [B, G, M, E])\n{ let d = i - "
    "j score 1.0 ";

struct Mistake {
  std::string text;
  int line;
  const char *message;
};

TEST(Diagnostics, nameTheMistakeAndItsPlace) {
  const Mistake mistakes[] = {
      {"", 1, "expected a variant, got an empty text"},
      {"attention t", 1, "expected '(' after the variant's name"},
      {"attention t(q: [B, H, T, D]) { score 1.0 }", 1, "expected an input named 'v'"},
      {head + "}", 1, "expected a 'score', got none"},
      {head + "score dot(q[i], k[j]) + oops }", 3, "unknown name 'oops'"},
      {head + "score dot(q[i], x[j]) }", 3, "unknown input 'x'"},
      {head + "score foo(1) }", 3, "unknown function 'foo'"},
      {head + "where any(n, i == n) }", 3, "expected how many terms 'any' has, as 'n < 8' before a comma"},
      {head + "where any(n < many, i == n) }", 3,
       "expected the number of terms, an integer, an int constant or a dim of an input, got 'many'"},
      {head + "where any(n < T, i == n) }", 3, "expected a dim of an input's own as the number of terms, got T"},
      {head + "where any(n < 65, i == n) }", 3, "expected from 1 to 64 terms of 'any', got 65"},
      {head + "score i // 64 }", 3, "expected a statement, got '//'"},
      {head + "score 1.0 where r[i] * 2 == 1 }", 3,
       "expected ints, or floats that no arithmetic has rounded, in '==', got a computed float"},
      {head + "score 1.0 where i >= j and i / 64 != j / 64 }", 3,
       "expected ints, or floats that no arithmetic has rounded, in '!=', got a computed float"},
      {head + "let s = dot(q[i], k[j]) score s where 1.0 == -s }", 3,
       "expected ints, or floats that no arithmetic has rounded, in '==', got a computed float"},
      {head + "score dot(q[i], v[j]) }", 3, "expected rows of one length in 'dot', got D and E"},
      {head + "score dot(q[i], q[i]) }", 3, "expected one row of queries and one row of keys"},
      {head + "score dot(q[i], k[i]) }", 3, "expected a row of queries x[i]"},
      {head + "score dot(q[i], k[j])\nwhere i }", 4, "expected a condition after 'where', got int"},
      {head + "score i >= j }", 3, "expected a number after 'score', got bool"},
      {head + "score r[i, 0.5] }", 3, "expected an int as an index, got float"},
      {head + "score n[i, j] }", 3, "expected 1 index(es) of 'n'"},
      {head + "let a = b2 let b2 = 1 score 1.0 }", 3, "whose let stands below or is this one"},
      {head + "let a = a + 1 score 1.0 }", 3, "whose let stands below or is this one"},
      {head + "score 1.0 score 2.0 }", 3, "expected one 'score', got a second one"},
      {head + "score 1e999 }", 3, "expected a finite number"},
      {head + "score 1.0 dropout 1.5 }", 3, "expected a probability in [0, 1), got 1.5"},
      {head + "score 1.0 normalize maybe }", 3,
       "expected softmax, sigmoid, none, stick_breaking, softmax1 or entmax15 after 'normalize'"},
      {head + "score 1.0 sink h normalize softmax1 }", 3, "expected 'normalize softmax' with a sink"},
      {head + "score 1.0 weight 2.0 normalize entmax15 }", 3, "expected no weight with entmax15"},
      {head + "score 1.0 sink r[i] }", 3, "expected a sink of b and h only"},
      {head + "score clamp(1, 2) }", 3, "expected 3 argument(s) of 'clamp', got 2"},
      {head + "score if 1 then 2 else 3 }", 3, "expected a condition in 'if', got int"},
      {head + "score 1 < 2 < 3 }", 3, "expected one comparison, got '<'"},
      {head + "score 1.0 $ }", 3, "expected a statement, got '$'"},
      {head + "score (1.0 }", 3, "expected ')' after the expression"},
      {head + "score q[i] }", 3, "expected a number after 'score', got row"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], n: [H] in 8 .. 2) { score 1.0 }", 1,
       "expected the lower bound first"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], n: [H] in T .. T - 1) { score 1.0 }", 1,
       "expected the lower bound first"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], n: [H] in 0 .. X) { score 1.0 }", 1,
       "expected a dim of the inputs as a bound, got 'X'"},
      {head + "score 1.0 select blocks(64, 64) { keep diagonal } }", 3,
       "expected 'tiles' or 'keys' after 'select', got 'blocks'"},
      {head + "score 1.0 select tiles(64, 1) { keep diagonal } }", 3, "expected more keys a tile, got ')'"},
      {head + "score 1.0 select keys(60) { keep diagonal } }", 3,
       "expected tile sizes that are multiples of 16 from 16 to 8192, got 60"},
      {head + "score 1.0 select keys(64) { keep near(dot(mean(q), k), i >= j) } }", 3,
       "expected a distance from the greatest estimate"},
      {head + "score 1.0 select tiles(64, 64) { keep near(dot(mean(q), k), 1) } }", 3,
       "expected pooled rows in the 'dot' of a select, got 'k'"},
      {head + "score 1.0 normalize stick_breaking select keys(64) { keep diagonal } }", 3,
       "expected another normaliser than stick_breaking with 'select keys'"},
      {head + "score 1.0 where i >= j select keys(64) { keep near(dot(mean_before(q), k), 1) } }", 3,
       "expected 'keep diagonal' in the selection of a causal variant"},
      {head + "score 1.0 select tiles(64, 60) { keep diagonal } }", 3,
       "expected tile sizes that are multiples of 16 from 16 to 8192, got 60"},
      {head + "score 1.0 select tiles(64, 64) { } }", 3, "expected at least one 'keep', got none"},
      {head + "score 1.0 select tiles(64, 64) { drop 3 } }", 3, "expected 'let' or 'keep', got 'drop'"},
      {head + "score 1.0 select tiles(64, 64) { keep topk(dot(q[i], k[j]), 3) } }", 3,
       "expected pooled rows in the 'dot' of a select"},
      {head + "score dot(mean(q), mean(k)) }", 3, "unknown function 'mean'"},
      {head + "score 1.0 select tiles(64, 64) { keep topk(dot(mean(q), mean(k)), 0.5) } }", 3,
       "expected a number of tiles, an int"},
      {head + "score 1.0 select tiles(64, 64) { keep topk(1.0, 3) } }", 3,
       "expected an estimate that differs from tile to tile"},
      {head + "score 1.0 select tiles(64, 64) { keep topk(dot(mean(r), mean(k)), 3) } }", 3,
       "expected rows of queries [B, H, T, D] or of keys"},
      {head + "score 1.0 select tiles(64, 64) { keep topk(dot(mean_before(q), mean_before(k)), 3) } }", 3,
       "expected rows of queries in 'mean_before', got keys"},
      {head + "score 1.0 where i >= j select tiles(64, 64) { keep topk(dot(mean(q), mean(k)), 3) keep diagonal } }", 3,
       "expected a summary of queries before the tile"},
      {head + "score 1.0 let d = i - j where d >= 0 and d < 50 select tiles(64, 64) { keep first 2 } }", 3,
       "expected 'keep diagonal' in the selection of a causal variant"},
      {head + "score 1.0 select tiles(64, 64) { keep first 2 } select tiles(64, 48) { keep first 1 } }", 3,
       "expected tile sizes that divide those of the round before"},
      {head + "score 1.0 keys = r[i] }", 3, "expected lists of keys int [B, H, N] or int [B, H, M, N], got 'r'"},
      {head + "score 1.0 keys = 3 }", 3, "expected an input after 'keys ='"},
      {head + "score 1.0 keys = n }", 3, "expected a dim of its own for the length of the lists, got S"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, M, N]) { score 1.0 keys = l[i] }", 1,
       "expected the dim T for a list of each query, got M"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, M, N]) { score 1.0 keys = l[j] }", 1,
       "expected a list for each query, i, or for each tile of queries: i div 64"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [S]) { score 1.0 where segment(l, i) > 0 }", 1,
       "expected offsets int [B, N] in 'segment', got 'l'"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: [N]) { score 1.0 where segment(l, i) > 0 }", 1,
       "expected offsets int [B, N] in 'segment', got 'l'"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E]) { score 1.0 where segment(i, j) > 0 }", 1,
       "expected the name of an input and a position in 'segment'"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, M, N]) { score 1.0 keys = l[floor(i / 60)] }", 1,
       "expected lists for a multiple of 16 queries"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, N]) { score 1.0 keys = l[floor(i / 64)] }", 1,
       "expected 0 index(es) of 'l' besides b and h, got 1"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, N]) { score 1.0 keys = l[h] normalize stick_breaking "
       "}",
       1, "they have no order"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], l: int [H, N]) { score 1.0 keys = l[h] select tiles(16, 16) { "
       "keep first 1 } }",
       1, "expected 'keys' or 'select', got both"},
      {also + "also w { score 1.0 } }", 2, "unknown input 'w'"},
      {also + "also sv score 1.0 }", 2, "expected '{' before what is said of its keys"},
      {also + "also sv { sink 1.0 } }", 2,
       "expected 'let', 'where', 'score', 'weight' or 'gate' in the block of 'also', got 'sink'"},
      {also + "also sv { where i >= j } }", 2, "expected a 'score', got none"},
      {also + "also k { score 1.0 } }", 2, "expected values [B, H, N, E] or [B, G, N, E] like 'v', got 'k'"},
      {also + "also v { score 1.0 } }", 2, "expected a dim of its own for the number of its keys, got S"},
      {also + "also sv { score 1.0 } also sv { score 1.0 } }", 2,
       "expected a dim of its own for the number of its keys, got M"},
      {also + "also sv { score dot(q[i], k[j]) } }", 2,
       "expected a row of queries x[i] with dims [B, H, T, D] or a row of keys y[j] with dims [B, G, M, D]"},
      {also + "also sv { score d } }", 2, "expected a name of this block, got 'd', which hangs on the keys of v"},
      {also + "also sv { let e = e score e } }", 2, "whose let stands below or is this one"},
      {also + "normalize stick_breaking also sv { score 1.0 } }", 2,
       "expected another normaliser than stick_breaking with 'also'"},
      {"attention t(v: [B, H, S, E], v: [B, H, S, E]) { score 1.0 }", 1, "'v', which is already declared"},
      {"attention t(q: [T, H, D], v: [B, H, S, E]) { score 1.0 }", 1, "expected H to stand first or after B"},
      {"attention t(q: [B, H, T, D], v: [B, H, S, E], o: [H]) { score 1.0 }", 1, "expected another name than 'o'"},
  };
  for (const Mistake &mistake : mistakes) {
    ParseResult result = parse(mistake.text, "test.weft");
    ASSERT_FALSE(result.diagnostics.empty()) << mistake.text;
    EXPECT_TRUE(result.variants.empty());
    bool found = false;
    for (const Diagnostic &diagnostic : result.diagnostics)
      found |= diagnostic.line == mistake.line && diagnostic.message.find(mistake.message) != std::string::npos;
    EXPECT_TRUE(found) << mistake.text << "\n" << render(result.diagnostics) << "expected: " << mistake.message;
  }
}

TEST(Diagnostics, keepTheKernelsOwnNames) {
  for (const std::string own : {"workspace", "o", "lse", "dlse", "pages", "seed", "band", "counts_keys", "dq"}) {
    const std::string text =
        "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], " + own + ": [H]) { score 1.0 }";
    EXPECT_NE(render(parse(text, "a").diagnostics).find("expected another name than '" + own + "'"), std::string::npos)
        << own;
  }
}

TEST(Diagnostics, showTheLineWithACaret) {
  const std::string text = render(parse(head + "score dot(q[i], k[j]) + oops }", "a.weft").diagnostics);
  EXPECT_EQ(text,
            "a.weft:3:25: error: unknown name 'oops'\n"
            "  score dot(q[i], k[j]) + oops }\n"
            "                          ^~~~\n"
            "  hint: names are inputs, constants, lets, dims and the indices b h i j\n");
}

TEST(Diagnostics, knowWhatOtherLanguagesWrite) {
  const struct {
    const char *statement, *hint;
  } habits[] = {
      {"score c[h] where i > j && i < 9", "write: a and b"},
      {"score c[h] where i > j || i < 9", "write: a or b"},
      {"score c[h] where !(i > j)", "write: not a"},
      {"score c[h] ** 2", "write: pow(a, b)"},
      {"score i > j ? 1 : 2", "write: if c then a else b"},
      {"# a comment\n score c[h]", "a comment begins with //"},
      {"score c[h] where c[h] * 2.0 == 1.0", "write abs(a - b) < eps"},
      {"score c[h] where i // 2 == j\n", "ints are divided by div, as in: i div 64"},
      {"score c[h] where i / 2 == j", "a div b is the int floor(a / b)"},
      {"score c[h] select given(c) { keep diagonal }", "of a given map: select tiles(64, 64) { keep"},
  };
  for (const auto &[statement, hint] : habits) {
    const std::string text = "attention t(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], c: [H]) { ";
    EXPECT_NE(render(parse(text + statement + " }", "a").diagnostics).find(hint), std::string::npos)
        << statement << "\n"
        << render(parse(text + statement + " }", "a").diagnostics);
  }
}

TEST(Diagnostics, severalAtOnce) {
  EXPECT_GE(parse(head + "score oops where nope weight never }", "a").diagnostics.size(), 3u);
}

TEST(Parser, deepAndLongTextsEnd) {
  EXPECT_FALSE(parse(head + "score " + std::string(100000, '(') + "1", "a").diagnostics.empty());
  std::string sum = "1.0";
  for (int at = 0; at < 100000; ++at) sum += "+1";
  EXPECT_FALSE(parse(head + "score " + sum + "}", "a").diagnostics.empty());
  std::string lets = "let a0 = 1.5 ";
  for (int at = 1; at < 60; ++at)
    lets += "let a" + std::to_string(at) + " = a" + std::to_string(at - 1) + " + a" + std::to_string(at - 1) + " ";
  EXPECT_TRUE(parse(head + lets + "score a59 }", "a").diagnostics.empty());
}

TEST(Parser, acceptsWhatTheLanguageHas) {
  for (const char *body :
       {"score r[i]", "score r[h, i]", "score r[b, h, i]", "score n[j]", "score q[i, 3]", "score dot(k[j], q[i])",
        "score if i > j and not (j == 0) then 1 else 2.5 // comment", "score i mod 3 + pow(2, 3) - -1",
        "score 1.0 where true or false gate relu(r[i]) dropout 0.5"}) {
    ParseResult result = parse(head + body + "\n}", "a");
    EXPECT_TRUE(result.diagnostics.empty()) << body << "\n" << render(result.diagnostics);
  }
}

TEST(Compile, refusesWhatItCannotDo) {
  CompileRequest request;
  EXPECT_NE(compile(request).error.find("expected a variant"), std::string::npos);
  request.variant = parse(head + "score dot(q[i], k[j]) }", "a").variants.at(0);
  EXPECT_NE(compile(request).error.find("expected dim"), std::string::npos);
  request.dims = {{"D", 64}, {"E", 64}};
  request.schedule.tileQ = 60;
  EXPECT_NE(compile(request).error.find("multiples of 16"), std::string::npos);
  request.schedule.tileQ = 64;
  request.target = "nosuch";
  EXPECT_NE(compile(request).error.find("got \"nosuch\""), std::string::npos);
  request.target = "host";
  request.kernel = "sideways";
  EXPECT_NE(compile(request).error.find("has no kernel 'sideways'"), std::string::npos);
}

TEST(Terms, areAsManyAsTheCallSays) {
  const std::string text =
      "attention t(q: [B, H, T, D], v: [B, H, S, E], a: [N], p: int [H, M])\n{ def f(x) = sum(n < N, a[n] * x)\n"
      "where any(M < M, p[h, M] == j) score f(i) + all(n < 2, n < j) + f(j) }";
  const auto variant = parse(text, "t.weft").variants.at(0);
  EXPECT_EQ(termDims(*variant), (std::vector<std::string>{"M", "N"}));
  const std::string written = sourceWith(*variant, {{"M", 12}, {"N", 1}, {"T", 900}});
  EXPECT_EQ(written,
            "attention t(q: [B, H, T, D], v: [B, H, S, E], a: [N], p: int [H, M])\n{ def f(x) = sum(n < 1, a[n] * x)\n"
            "where any(M < 12, p[h, M] == j) score f(i) + all(n < 2, n < j) + f(j) }");
  EXPECT_TRUE(termDims(*parse(written, "t.weft").variants.at(0)).empty());
  for (const auto &[sizes, got] : std::initializer_list<std::pair<std::map<std::string, int64_t>, const char *>>{
           {{{"M", 4}}, "none"}, {{{"M", 4}, {"N", 0}}, "0"}, {{{"M", 4}, {"N", 65}}, "65"}})
    try {
      sourceWith(*variant, sizes);
      ADD_FAILURE() << got;
    } catch (const std::invalid_argument &error) {
      EXPECT_EQ(error.what(), std::string("variant 't': expected dim N, a number of terms, from 1 to 64, got ") + got);
    }
  CompileRequest request;
  request.variant = variant;
  request.dims = {{"D", 64}, {"E", 64}};
  EXPECT_EQ(compile(request).error, "expected a variant whose numbers of terms are written, got dim M as one of 't'");
}

TEST(Compile, sameRequestSameImage) {
  CompileRequest request;
  request.variant = parse(head + "score dot(q[i], k[j]) where i >= j }", "a").variants.at(0);
  request.dims = {{"D", 64}, {"E", 64}};
  EXPECT_EQ(compile(request).image.code, compile(request).image.code);
}

TEST(Compile, otherCpusToo) {
  CompileRequest request;
  request.variant = parse(head + "score dot(q[i], k[j]) where i >= j }", "a").variants.at(0);
  request.dims = {{"D", 64}, {"E", 64}};
  request.stage = Stage::Assembly;
  request.target = "haswell";
  const std::string avx2 = compile(request).text;
  EXPECT_NE(avx2.find("vfmadd"), std::string::npos);
  EXPECT_NE(avx2.find("ymm"), std::string::npos);
  EXPECT_EQ(avx2.find("zmm"), std::string::npos);
  request.target = "sapphirerapids";
  EXPECT_NE(compile(request).text.find("zmm"), std::string::npos);
  EXPECT_EQ(compile(request).text.find("tdpbf16ps"), std::string::npos);
  request.type = ElementType::BF16;
  EXPECT_NE(compile(request).text.find("tdpbf16ps"), std::string::npos);
}

// NEON and SVE, without and with products of bf16.
TEST(Compile, otherArchitecturesToo) {
  CompileRequest request;
  request.variant = parse(head + "score dot(q[i], k[j]) where i >= j }", "a").variants.at(0);
  request.dims = {{"D", 64}, {"E", 64}};
  request.stage = Stage::Assembly;
  request.type = ElementType::BF16;
  auto has = [&](const char *target, const char *text) {
    request.target = target;
    const CompileResult result = compile(request);
    EXPECT_EQ(result.error, "");
    return result.text.find(text) != std::string::npos;
  };
  EXPECT_TRUE(has("neoverse-n1", "fmla\tv"));
  EXPECT_FALSE(has("neoverse-n1", "bfmmla"));
  EXPECT_FALSE(has("neoverse-n1", "ptrue"));
  EXPECT_TRUE(has("neoverse-n2", "bfmmla\tv"));
  EXPECT_TRUE(has("neoverse-v1", "bfmmla\tz"));
  EXPECT_TRUE(has("a64fx", "fmla\tz") && has("a64fx", "ptrue"));
  EXPECT_FALSE(has("a64fx", "bfmmla"));
}

TEST(Declarations, sayWhatValuesMakeSense) {
  const auto parsed = parse(
      "attention t(q: [B, H, T, D], v: [B, H, S, E], a: [H] in 2 .. 8, n: int [] in 1 .. S / 64 + 1 typical S/512,\n"
      "c: [H] in ..-.5, d: [H] typical 2..3, e: int [B, T] in 0.. rising, in: [H])\n{ score in[h] }",
      "t.weft");
  ASSERT_TRUE(parsed.diagnostics.empty()) << parsed.diagnostics[0].message;
  const auto &inputs = parsed.variants[0]->inputs();
  const char *const printed[] = {
      "", "", "in 2 .. 8", "in 1 .. S / 64 + 1 typical S / 512", "in .. -0.5", "typical 2 .. 3", "in 0 .. rising", ""};
  for (size_t at = 0; at < inputs.size(); ++at) EXPECT_EQ(print(inputs[at].values), printed[at]) << inputs[at].name;
  const Bounds tiles = inputs[3].values.bounds({{"S", 640}});
  EXPECT_EQ(tiles.low, 1);
  EXPECT_EQ(tiles.high, 11);
  // A typical value that small sizes push out of the range moves to its end.
  EXPECT_EQ(inputs[3].values.typical({{"S", 128}})->low, 1);
  EXPECT_EQ(inputs[3].values.typical({{"S", 5120}})->high, 10);
  EXPECT_EQ(inputs[4].values.typical({})->high, -0.5);
  EXPECT_FALSE(inputs[0].values.typical({}));
}

TEST(Variants, knowWhereOnlyDistancesCount) {
  auto alone = [](const std::string &statements) {
    const auto parsed = parse(
        "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], x: [S], c: [H])\n{ score dot(q[i], k[j]) " +
            statements + " }",
        "t.weft");
    EXPECT_TRUE(parsed.diagnostics.empty()) << statements;
    return parsed.variants[0]->seesDistancesAlone();
  };
  EXPECT_TRUE(alone("where i >= j"));
  EXPECT_TRUE(alone("let d = i - j where d >= 0 and d < 8 weight exp(c[h] * (j - i)) gate 1.0 / (1 + d)"));
  EXPECT_FALSE(alone("where i >= j and j < 4"));
  EXPECT_FALSE(alone("where i >= j gate x[j]"));
  EXPECT_FALSE(alone("where i - j >= 0 where i >= j + 1"));
  EXPECT_FALSE(alone("where i - floor(j / 2) >= 0"));
  EXPECT_FALSE(alone("where i >= j select tiles(64, 64) { keep diagonal }"));
}

}  // namespace
}  // namespace weft
