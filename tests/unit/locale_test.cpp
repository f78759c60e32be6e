// The locale of the host process changes no number, neither those that are read nor those that are written.
#include <gtest/gtest.h>

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <locale>

#include <unistd.h>

#include "compiler/compiler.h"

namespace weft {
namespace {

/// 1.234,5
struct Comma : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// All that is made of one text: the printed tree, the IR at each level, assembly, PTX and a diagnostic.
std::string everything() {
  const char *source =
      "attention t(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], span: [H], const soft = 32.25)\n"
      "{ let far = 123456 + i - j score dot(q[i], k[j]) * 0.75 - 1.5e-3 where far < 4194304 weight clamp(span[h] - "
      "soft, 0, .5) dropout 0.125 }";
  std::string text = render(parse("attention t(q: [B, H, T, D]) { score 0.5 + }", "wrong.weft").diagnostics);
  const ParseResult parsed = parse(source, "t.weft");
  if (parsed.variants.size() != 1) return render(parsed.diagnostics);
  CompileRequest request;
  request.variant = parsed.variants[0];
  request.dims = {{"D", 16}, {"E", 16}};
  request.schedule.tileQ = request.schedule.tileK = 16;
  for (Stage stage : {Stage::Ast, Stage::Weft, Stage::Tile, Stage::Assembly}) {
    request.stage = stage;
    text += compile(request).text;
  }
  request.target = "sm_80";
  text += compile(request).text;
  return text + describe(request.schedule, request.target);
}

TEST(Locale, streamsOfTheHostChangeNothing) {
  const std::string plain = everything();
  EXPECT_NE(plain.find("0.75"), std::string::npos) << plain.substr(0, 1000);
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Comma));
  const std::string own = everything();
  std::locale::global(before);
  EXPECT_EQ(own, plain);
}

TEST(Locale, theCLibraryChangesNothing) {
  namespace fs = std::filesystem;
  const std::string plain = everything();
  // A locale of one category, made here: no machine need have one installed.
  const fs::path folder = fs::temp_directory_path() / ("weft-locale-" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "comma.src") << "comment_char %\nescape_char /\nLC_NUMERIC\ndecimal_point "
                                         "\",\"\nthousands_sep \".\"\ngrouping 3;3\nEND LC_NUMERIC\n";
  const std::string make =
      "localedef -c -i " + (folder / "comma.src").string() + " " + (folder / "comma").string() + " >/dev/null 2>&1";
  const bool made = std::system(make.c_str()) >= 0 && fs::exists(folder / "comma" / "LC_NUMERIC");
  setenv("LOCPATH", folder.c_str(), 1);
  const bool set = made && std::setlocale(LC_NUMERIC, "comma");
  std::string own;
  double half = 0;
  if (set) {
    half = std::strtod("0,5", nullptr);
    own = everything();
  }
  std::setlocale(LC_NUMERIC, "C");
  unsetenv("LOCPATH");
  fs::remove_all(folder);
  if (!set)
    GTEST_SKIP() << "no localedef makes a locale with a decimal comma here; tests/locale.cmake looks at the sources";
  EXPECT_EQ(half, 0.5);
  EXPECT_EQ(own, plain);
}

}  // namespace
}  // namespace weft
