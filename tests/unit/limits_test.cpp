// Texts that double, go on for ever or ask for too much: each ends soon, on a small stack, with a kernel or a clear
// error.
#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>
#include <sstream>

#include "compiler/compiler.h"
#include "compiler/language/cost.h"
#include "tests/unit/call.h"

namespace weft {
namespace {

const std::string head =
    "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], r: [B, H, T], x: [B, H, S], table: [H, N], n: int "
    "[S], f: bool [S], c: [H])\n{\n"
    "score dot(q[i], k[j]) / sqrt(D)\n";

/// let a1 = a0 op a0 let a2 = a1 op a1 ...: 2^60 operations as a tree, 60 as a graph.
std::string doubling(const std::string &first, const std::string &op, int count = 60) {
  std::string text = "let a0 = " + first;
  for (int at = 1; at <= count; ++at)
    text += "\nlet a" + std::to_string(at) + " = a" + std::to_string(at - 1) + op + "a" + std::to_string(at - 1);
  return text + "\n";
}

std::string repeated(int count, const std::function<std::string(int)> &one) {
  std::string text;
  for (int at = 0; at < count; ++at) text += one(at);
  return text;
}

std::string errors(const std::string &text) { return render(parse(text, "t.weft").diagnostics); }

/// Every kernel of a variant, down to tiles.
void lower(const std::string &text) {
  const ParseResult parsed = parse(text, "t.weft");
  ASSERT_TRUE(parsed.diagnostics.empty()) << render(parsed.diagnostics);
  CompileRequest request;
  request.variant = parsed.variants.at(0);
  request.dims = {{"D", 16}, {"E", 16}};
  request.schedule = fitted({.tileQ = 16, .tileK = 16}, *request.variant);
  for (Stage stage : {Stage::Ast, Stage::Weft, Stage::Tile})
    for (const std::string &kernel : kernelNames(*request.variant, true)) {
      request.kernel = kernel;
      request.stage = stage;
      EXPECT_EQ(compile(request).error, "") << kernel;
    }
}

/// Runs `body` in a thread with a stack as small as those of some hosts; an overflow ends the process.
void onSmallStack(const std::function<void()> &body) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr size_t bytes = 1 << 20;  // frames are larger there
#else
  constexpr size_t bytes = 1 << 18;
#endif
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, bytes), 0);
  pthread_t thread;
  auto run = [](void *own) -> void * {
    (*static_cast<const std::function<void()> *>(own))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()> *>(&body)), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(Limits, whatDoublesIsWalkedAsAGraph) {
  lower(head + doubling("r[i]", " * ") + "weight a60 }");
  lower(head + doubling("x[j]", " + ") + "gate a60 }");
  lower(head + doubling("i >= j", " and ") + "where a60 }");
  lower(head + doubling("f[j]", " or ") + "where a60 }");
  lower(head + doubling("T * 0.5", " * ") + "gate a60 }");
  lower("attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E])\n{\n" + doubling("T * 0.5", " + ") +
        "score dot(q[i], k[j]) * a60 }");
  const std::string select = " select tiles(16, 16) { keep topk(dot(mean_before(q), mean(k)), 3) keep diagonal } }";
  lower(head + doubling("i - j", " - ") + "where a60 >= 0 where i >= j" + select);
  lower(head + doubling("i - j", " + ") + "where a60 >= 0 where a59 >= 0" + select);
  lower(head + doubling("i >= j", " and ") + "where a60" + select);
  lower(head + "select tiles(16, 16) {\n" + doubling("dot(mean(q), mean(k))", " + ") + "keep topk(a60, 3) } }");
}

TEST(Limits, aCausalMaskIsSeenThroughLets) {
  // mean(q) would let later tokens choose.
  const std::string select = " select tiles(16, 16) { keep topk(dot(mean(q), mean(k)), 3) keep diagonal } }";
  EXPECT_NE(errors(head + doubling("i >= j", " and ") + "where a60" + select)
                .find("expected a summary of queries before the tile"),
            std::string::npos);
  EXPECT_NE(errors(head + "let d = i - j let e = d + 1 where 0 <= e - 1" + select)
                .find("expected a summary of queries before the tile"),
            std::string::npos);
  EXPECT_EQ(errors(head + "let d = i - j let e = d + 2 where 0 <= e - 1" + select), "");
}

TEST(Limits, longChainsNeedNoStack) {
  onSmallStack([] {
    lower(head + "let a0 = r[i]" +
          repeated(1500,
                   [](int at) { return "\nlet a" + std::to_string(at + 1) + " = a" + std::to_string(at) + " + 1"; }) +
          "\nweight a1500 where i >= j }");
    lower(head + "gate 1.5" + repeated(1200, [](int) { return " + c[h]"; }) + " }");
    lower(head + "let d0 = i - j" +
          repeated(1500,
                   [](int at) { return " let d" + std::to_string(at + 1) + " = d" + std::to_string(at) + " + 1"; }) +
          " where d1500 > 1400 }");
    lower(head + "where i >= j" + repeated(1200, [](int at) { return " and j != " + std::to_string(at); }) + " }");
    lower(head + "select tiles(16, 16) { keep topk(dot(mean(q), mean(k))" + repeated(1500, [](int) { return " + 1"; }) +
          ", 3) } }");
    // Too long to compile, not too long to be refused.
    EXPECT_NE(errors(head + "gate 1.5" + repeated(9000, [](int) { return " + 1"; }) + " }")
                  .find("expected a variant of at most"),
              std::string::npos);
    EXPECT_NE(errors(head +
                     repeated(4500,
                              [](int at) {
                                return " let a" + std::to_string(at) + " = " +
                                       (at ? "a" + std::to_string(at - 1) : "r[i]");
                              }) +
                     " weight a4499 }")
                  .find("expected a variant of at most"),
              std::string::npos);
    for (const char *open : {"(", "sin(", "if true then ", "r[", "max(1, ", "x[j + (", "- (", "not (", "dot("})
      for (int depth : {99, 10000})
        EXPECT_NE(errors(head + "gate " + repeated(depth, [&](int) { return open; }) + "1 }"), "") << open;
    std::string nested = "1.5";
    for (int depth = 0; depth < 98; ++depth) nested = "pow(" + nested + " + 1, 2)";
    EXPECT_NE(errors(head + "gate " + nested + " }").find("expected a variant of at most"), std::string::npos);
  });
}

TEST(Limits, definitionsUnfoldToLittle) {
  onSmallStack([] {
    // Each calls the one before it twice, beside itself or inside of itself.
    for (const char *twice : {"f%(x) + f%(x)", "f%(f%(x))", "max(f%(x + 1), f%(x))"}) {
      std::string text = head + "def f0(x) = x * 2 ";
      for (int at = 1; at <= 60; ++at) {
        std::string body = twice;
        for (size_t place; (place = body.find('%')) != std::string::npos;)
          body.replace(place, 1, std::to_string(at - 1));
        text += "def f" + std::to_string(at) + "(x) = " + body + " ";
      }
      const std::string said = errors(text + "gate f60(1.5) }");
      EXPECT_TRUE(said.find("expected functions that unfold to at most 100000") != std::string::npos ||
                  said.find("nested at most 100 deep") != std::string::npos)
          << said;
    }
    std::string deep = head + "def f0(x) = sin(x) ";
    for (int at = 1; at <= 1000; ++at)
      deep += "def f" + std::to_string(at) + "(x) = max(1, f" + std::to_string(at - 1) + "(x)) ";
    EXPECT_NE(errors(deep + "gate f1000(1.5) }").find("nested at most 100 deep"), std::string::npos);
    lower(head + "def id(x) = x def sum(x, y) = id(x) + id(y) gate sum(id(1.5), sum(r[i], c[h])) where id(i >= j) }");
    // A graph that has no end as a tree is printed to some length, and not at all in a message.
    std::string graph = "def f0(x) = x + x ";
    for (int at = 1; at <= 39; ++at)
      graph += "def f" + std::to_string(at) + "(x) = f0(f" + std::to_string(at - 1) + "(x)) ";
    EXPECT_NE(errors(head + graph + "keys = f39(i) }").find("got an expression"), std::string::npos);
    lower(head + graph + "gate f39(c[h]) }");
    // Conditions in conditions, each with an index behind it.
    std::string guarded = head + "let a0 = 0.5 ";
    for (int at = 1; at <= 300; ++at)
      guarded += "let a" + std::to_string(at) + " = if i - j < " + std::to_string(at) + " then a" +
                 std::to_string(at - 1) + " else x[j] ";
    lower(guarded + "gate a300 }");
    std::string behind = head + "let a0 = table[h, i - j] ";
    for (int at = 1; at <= 50; ++at)
      behind += "let a" + std::to_string(at) + " = if i - j < " + std::to_string(at) + " then a" +
                std::to_string(at - 1) + " else table[h, j - i - " + std::to_string(at) + "] ";
    lower(behind + "gate a50 }");
  });
}

TEST(Limits, whatWouldTakeLongToCompileIsRefused) {
  const std::string refused = "expected a variant of at most 4000 steps for each pair";
  EXPECT_NE(errors(head + "gate 1.5" +
                   repeated(1400, [](int at) { return " + table[h, i - j + " + std::to_string(at) + "]"; }) + " }")
                .find(refused),
            std::string::npos);
  EXPECT_NE(errors(head + "gate 1.5" +
                   repeated(200, [](int at) { return " + pow(c[h], " + std::to_string(at) + ")"; }) + " }")
                .find(refused),
            std::string::npos);
  EXPECT_NE(errors(head + "where true" +
                   repeated(200, [](int at) { return " and (i - j) mod " + std::to_string(at + 2) + " != 1"; }) + " }")
                .find(refused),
            std::string::npos);
  // Each condition alone is small; each is looked for anew among the distances.
  EXPECT_NE(errors(head + doubling("i - j", " + ", 40) +
                   repeated(200, [](int at) { return " where a40 >= " + std::to_string(at); }) + " }")
                .find(refused),
            std::string::npos);
  EXPECT_EQ(errors(head + "gate 1.5" +
                   repeated(50, [](int at) { return " + table[h, i - j + " + std::to_string(at) + "]"; }) + " }"),
            "");
  EXPECT_EQ(errors(head + "gate 1.5" + repeated(1500, [](int) { return " + 1"; }) + " }"), "");
}

TEST(Limits, variantsInUseAreFarBelow) {
  const std::vector<std::string> names = testing::libraryVariants();
  for (const std::string &name : names)
    EXPECT_LT(ast::compileSteps(testing::variantOf(name)->tree()), ast::mostSteps / 5) << name;
  EXPECT_GE(names.size(), 35U);
}

TEST(Limits, countsAreBounded) {
  EXPECT_NE(errors("attention t(v: [B, H, S, E]" +
                   repeated(3000, [](int at) { return ", a" + std::to_string(at) + ": [H]"; }) + ") { score 1 }")
                .find("expected at most 100 inputs"),
            std::string::npos);
  EXPECT_NE(errors("attention t(q: [B, H, T, D], v: [B, H, S, E], a: [H" +
                   repeated(3000, [](int at) { return ", N" + std::to_string(at); }) + "]) { score 1 }")
                .find("expected an input of at most 8 dims, got 3001"),
            std::string::npos);
  EXPECT_NE(errors(repeated(600, [](int) { return "attention a(q:[B,H,T,D],v:[B,H,S,E]){score 1}"; }))
                .find("expected at most 100 variants"),
            std::string::npos);
  EXPECT_NE(errors("attention " + std::string(101, 'x') + "(v: [B, H, S, E]) { score 1 }")
                .find("expected a name of at most 100 characters"),
            std::string::npos);
  EXPECT_NE(errors(std::string((1 << 20) + 1, ' ')).find("expected a text of at most 1 MiB and 20,000 words"),
            std::string::npos);
}

TEST(Limits, oneMistakeDoesNotBringOthers) {
  // After an error deep in an expression, or in a selection, the next variant starts anew.
  const std::string good = " attention u(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]) { score " +
                           std::string(90, '(') + "dot(q[i], k[j])" + std::string(90, ')') + " }";
  EXPECT_EQ(parse(head + "gate " + std::string(90, '(') + "$ }" + good, "a").diagnostics.size(), 1u);
  const std::string pooled =
      " attention u(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E]) { score dot(mean(q), mean(k)) }";
  EXPECT_NE(errors(head + "select tiles(16, 16) { keep $ } }" + pooled).find("unknown function 'mean'"),
            std::string::npos);
}

TEST(Limits, aFileSaysItsFirstMistakes) {
  const std::string text = repeated(600, [](int) {
    return "attention a(q: [B, H, T, D], v: [B, H, S, E]) { score oops }" + std::string(1000, ' ');
  });
  const ParseResult result = parse(text, "a.weft");
  ASSERT_EQ(result.diagnostics.size(), 21u);
  EXPECT_EQ(result.diagnostics.back().message, "more mistakes follow; the first 20 are shown");
  for (const Diagnostic &diagnostic : result.diagnostics) EXPECT_LE(diagnostic.excerpt.size(), 160u);
  EXPECT_EQ(parse(repeated(600, [](int) { return "attention ( "; }), "a").diagnostics.size(), 21u);
  EXPECT_LT(errors(std::string("attention a(v: [B, H, S, E]) { score ") + std::string(1000000, 'x') + " }").size(),
            1500u);
}

/// The characters that the carets of a rendered diagnostic stand below.
std::string marked(const std::string &rendered) {
  std::istringstream lines(rendered);
  std::string message, excerpt, carets;
  std::getline(lines, message);
  std::getline(lines, excerpt);
  std::getline(lines, carets);
  const size_t first = carets.find('^'), count = carets.size() - first;
  // By characters: each begins with a byte that continues none.
  std::string found;
  size_t at = 0;
  for (char c : excerpt) {
    const bool begins = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    at += begins;
    if (at > first && at <= first + count) found += c;
  }
  return found;
}

TEST(Limits, theCaretStandsBelowTheMistake) {
  const std::string wrong = "attention a(q: [B, H, T, D], v: [B, H, S, E]) { score oops }";
  for (size_t before : {0u, 50u, 79u, 80u, 81u, 159u, 160u, 5000u})
    for (size_t after : {0u, 100u, 5000u})
      EXPECT_EQ(marked(errors(std::string(before, ' ') + wrong + std::string(after, ' '))), "oops")
          << before << " " << after;
  // Characters of several bytes, and bytes that are none: the first is a mistake of its own.
  for (const char *odd : {"\xC3\xA9", "\xF0\x9F\x98\x80", "\xFF", "\xE2\x82", "\x01", "\t"})
    for (int count : {1, 30, 47, 500}) {
      const ParseResult result = parse("attention " + repeated(count, [&](int) { return odd; }) + " " + wrong, "a");
      ASSERT_FALSE(result.diagnostics.empty());
      EXPECT_EQ(marked(render(result.diagnostics.back())), "oops") << odd << " " << count;
      // Two bytes that begin a character and do not end it are two places.
      const int places = std::string(odd) == "\xE2\x82" ? 2 * count : count;
      EXPECT_EQ(result.diagnostics.back().column, 10 + places + 1 + 54 + 1) << odd << " " << count;
    }
  EXPECT_EQ(marked(errors("attention a(q: [B, H, T, D], v: [B, H, S, E])\r\n{ score oops }\r\n")), "oops");
  // Nothing turns a terminal's text around, rings its bell or breaks a string.
  const std::string rendered = errors(std::string("attention \xE2\x80\xAE\x1B[2J\0\xED\xA0\x80\x07 \xC3\xA9", 20));
  for (const char *bad : {"\xE2\x80\xAE", "\x1B", "\xED\xA0\x80", "\x07"})
    EXPECT_EQ(rendered.find(bad), std::string::npos) << rendered;
  EXPECT_EQ(rendered.find('\0'), std::string::npos);
}

}  // namespace
}  // namespace weft
