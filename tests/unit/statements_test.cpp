// A text parted into its statements says, put together again, what it said.
#include "compiler/statements.h"

#include <gtest/gtest.h>

#include "compiler/language/ast.h"
#include "tests/unit/call.h"

namespace weft {
namespace {

using namespace testing;

std::string again(const StatementText &text) {
  std::string all = joined(text.head) + "{\n";
  for (const Statement &statement : text.statements) all += joined(statement.words) + "\n";
  return all + "}\n";
}

TEST(Statements, ofEveryVariantSayTheSameAgain) {
  const std::vector<std::string> names = libraryVariants();
  for (const std::string &name : names) {
    const auto variant = variantOf(name);
    ASSERT_TRUE(variant);
    const auto second = variantOf(again(statementsOf(*variant)));
    ASSERT_TRUE(second);
    EXPECT_EQ(ast::print(second->tree()), ast::print(variant->tree()));
  }
  EXPECT_GE(names.size(), 35U);
}

TEST(Statements, areKnownFromNamesInThem) {
  const auto variant = variantOf(
      "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], also: [H], keys: [S], def: [H])\n"
      "{ // let a comment be none\n"
      "  def near(x) = abs(x) < 1.5e-3 let d = i - j + 7 // of tokens\n where near(also[h] + keys[j] + def[h]) or d <= "
      "0\n"
      "  select tiles(64, 64) { let x = dot(mean(q), mean(k)) keep topk(x, 2) } score dot(q[i], k[j]) sink also[h] }");
  ASSERT_TRUE(variant);
  const StatementText text = statementsOf(*variant);
  EXPECT_EQ(joined(text.head, "").substr(0, 12), "attentiont(q");
  std::string keywords;
  for (const Statement &statement : text.statements) keywords += statement.keyword + " ";
  EXPECT_EQ(keywords, "def let where select score sink ");
  EXPECT_EQ(joined(text.statements[0].words), "def near ( x ) = abs ( x ) < 1.5e-3");
  EXPECT_EQ(joined(text.statements[1].behind()), "d = i - j + 7");
  EXPECT_EQ(joined(text.statements[2].behind(), ""), "near(also[h]+keys[j]+def[h])ord<=0");
  const auto second = variantOf(again(text));
  ASSERT_TRUE(second);
  EXPECT_EQ(ast::print(second->tree()), ast::print(variant->tree()));
}

}  // namespace
}  // namespace weft
