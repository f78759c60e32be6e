#include "compiler/language/parser.h"

#include <charconv>
#include <cmath>
#include <set>

#include "compiler/language/lexer.h"

namespace weft {
namespace {

using ast::Expr;
using ast::ExprPtr;
using ast::Function;

/// Unwinds to the next `attention`; the diagnostic is already recorded.
struct SyntaxError {};

const std::set<std::string> keywords = {"attention", "const",   "let",       "where", "score",
                                        "weight",    "gate",    "sink",      "dropout", "normalize",
                                        "select",    "mod",     "and",       "or",    "not",
                                        "if",        "then",    "else",      "true",  "false",
                                        "b",         "h",       "i",         "j"};

class Parser {
 public:
  Parser(std::string_view source, std::vector<Token> tokens, Diagnostics &diagnostics)
      : source(source), tokens(std::move(tokens)), diagnostics(diagnostics) {}

  ParsedVariants run() {
    ParsedVariants variants;
    if (tokens.size() == 1)
      report({0, 0}, "expected a variant, got an empty text",
             "a variant starts with: attention name(q: [B, H, T, D], ...) { score ... }");
    while (peek().kind != Token::Kind::End && !diagnostics.full()) {
      const size_t start = position;
      try {
        depth = 0;
        inSelect = false;
        if (variants.size() == maxVariants) {
          report(peek().range, "expected at most " + std::to_string(maxVariants) + " variants in one text", "give each its file");
          break;
        }
        variants.push_back(parseVariant());
      } catch (const SyntaxError &) {
        if (position == start) ++position;
        while (peek().kind != Token::Kind::End && peek().text != "attention") ++position;
      }
    }
    return variants;
  }

 private:
  static constexpr int maxDepth = 100;
  static constexpr size_t maxVariants = 100, maxInputs = 100, maxDims = 8, maxName = 100;

  std::string_view source;
  std::vector<Token> tokens;
  size_t position = 0;
  int depth = 0;
  bool inSelect = false;  ///< pooled rows are known there
  Diagnostics &diagnostics;

  const Token &peek(int ahead = 0) const {
    return tokens[std::min(position + ahead, tokens.size() - 1)];
  }
  bool at(const char *text) const {
    return peek().text == text && peek().kind != Token::Kind::End;
  }
  bool accept(const char *text) {
    if (!at(text)) return false;
    ++position;
    return true;
  }
  void report(SourceRange range, std::string message, std::string hint = {}) {
    diagnostics.report(range, std::move(message), std::move(hint));
  }
  [[noreturn]] void fail(const std::string &expected, std::string hint = {}) {
    report(peek().range,
           "expected " + expected + ", got " +
               (peek().kind == Token::Kind::End ? "the end of the file" : "'" + peek().text + "'"),
           std::move(hint));
    throw SyntaxError();
  }
  Token expect(const char *text, const char *where) {
    if (!at(text)) fail(std::string("'") + text + "' " + where);
    return tokens[position++];
  }
  Token expectName(const char *what) {
    if (peek().kind != Token::Kind::Name) fail(what);
    if (keywords.count(peek().text))
      fail(what, "'" + peek().text + "' is a word of the language; choose another name");
    if (peek().text.size() > maxName) fail("a name of at most " + std::to_string(maxName) + " characters");
    return tokens[position++];
  }
  int lastEnd() const { return position ? tokens[position - 1].range.end : 0; }

  ExprPtr node(Expr::Kind kind, SourceRange range) {
    auto result = std::make_shared<Expr>();
    result->kind = kind;
    result->range = range;
    return result;
  }
  ExprPtr call(Function function, SourceRange range, std::vector<ExprPtr> args) {
    ExprPtr result = node(Expr::Kind::Call, range);
    result->function = function;
    result->args = std::move(args);
    return result;
  }

  // variant := 'attention' name '(' parameter (',' parameter)* ')' '{' statement* '}'
  std::shared_ptr<ast::Variant> parseVariant() {
    auto variant = std::make_shared<ast::Variant>();
    const int begin = peek().range.begin;
    if (!at("attention"))
      fail("'attention'", "a variant starts with: attention name(q: [B, H, T, D], ...) {");
    ++position;
    const Token name = expectName("the variant's name");
    variant->name = name.text;
    variant->range = name.range;
    expect("(", "after the variant's name");
    do {
      if (at(")")) break;
      parseParameter(*variant);
    } while (accept(","));
    expect(")", "after the parameters");
    expect("{", "before the statements");
    while (!at("}")) parseStatement(*variant);
    expect("}", "after the statements");
    variant->source = source.substr(begin, lastEnd() - begin);
    return variant;
  }

  // parameter := 'const' name '=' ['-'] number | name ':' ['int' | 'bool'] '[' (dim (',' dim)*)? ']'
  void parseParameter(ast::Variant &variant) {
    if (accept("const")) {
      const Token name = expectName("the constant's name");
      expect("=", "after the constant's name");
      const bool negative = accept("-");
      const Token number = peek();
      if (number.kind != Token::Kind::Integer && number.kind != Token::Kind::Real)
        fail("a number", "a constant has a literal value, as in: const soft = 32.0");
      ++position;
      const double value = parseNumber(number);
      variant.constants.push_back({name.text, negative ? -value : value, name.range});
      return;
    }
    const Token name = expectName("an input's name");
    ast::Input input;
    input.name = name.text;
    input.range = name.range;
    expect(":", "after the input's name");
    if (accept("int"))
      input.element = ast::ElementClass::Int;
    else if (accept("bool"))
      input.element = ast::ElementClass::Bool;
    else
      accept("float");
    expect("[", "before the dims; as in: q: [B, H, T, D]");
    if (!at("]")) {
      do input.dims.push_back(expectName("a dim's name").text);
      while (accept(","));
    }
    expect("]", "after the dims");
    if (input.dims.size() > maxDims)
      report(name.range, "expected an input of at most " + std::to_string(maxDims) + " dims, got " + std::to_string(input.dims.size()));
    if (variant.inputs.size() == maxInputs) {
      report(name.range, "expected at most " + std::to_string(maxInputs) + " inputs");
      throw SyntaxError();
    }
    variant.inputs.push_back(std::move(input));
  }

  double parseNumber(const Token &token) {
    // The host process may have set a locale whose decimal point is a comma; from_chars knows none.
    double value = 0;
    const bool read = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value).ec == std::errc();
    if (!read || std::abs(value) > 3.4e38) {
      report(token.range, "expected a finite number that fits f32, got '" + token.text + "'");
      return 0;
    }
    return value;
  }

  template <class Slot>
  void once(const Slot &slot, const Token &keyword) {
    if (slot)
      report(keyword.range, "expected one '" + keyword.text + "', got a second one",
             "combine them in one expression");
  }

  // pair := 'let' name '=' expr | 'where' expr | 'score' expr | 'weight' expr | 'gate' expr
  /// What is said of a pair; false where no such statement stands here.
  bool parsePair(ast::KeySet &set) {
    const Token keyword = peek();
    if (accept("let")) {
      const Token name = expectName("the name of the let");
      expect("=", "after the name of the let");
      ExprPtr value = parseExpr();
      set.lets.push_back({name.text, value, name.range});
    } else if (accept("where")) {
      set.wheres.push_back(parseExpr());
    } else if (accept("score")) {
      once(set.score, keyword);
      set.score = parseExpr();
    } else if (accept("weight")) {
      once(set.weight, keyword);
      set.weight = parseExpr();
    } else if (accept("gate")) {
      once(set.gate, keyword);
      set.gate = parseExpr();
    } else {
      return false;
    }
    return true;
  }

  // also := 'also' name '{' pair* '}'
  ast::KeySet parseAlso(const ast::Variant &variant) {
    ast::KeySet set;
    const Token name = expectName("the input that holds the values of more keys");
    set.range = name.range;
    set.values = variant.inputNamed(name.text);
    if (set.values < 0) report(name.range, "unknown input '" + name.text + "'", "as in: also sv { score dot(q[i], sk[j]) }   with sk: [B, H, N, D], sv: [B, H, N, E]");
    expect("{", "before what is said of its keys");
    while (!at("}"))
      if (!parsePair(set)) fail("'let', 'where', 'score', 'weight' or 'gate' in the block of 'also'");
    expect("}", "after what is said of its keys");
    return set;
  }

  // statement := pair | also | 'sink' expr | 'dropout' number | 'normalize' ('softmax' | 'sigmoid' | 'none' | 'stick_breaking') | select | 'keys' '=' name ('[' arguments ']')?
  void parseStatement(ast::Variant &variant) {
    if (parsePair(variant.sets[0])) return;
    const Token keyword = peek();
    if (accept("also")) {
      variant.sets.push_back(parseAlso(variant));
    } else if (accept("sink")) {
      once(variant.sink, keyword);
      variant.sink = parseExpr();
    } else if (accept("dropout")) {
      once(variant.dropout, keyword);
      const Token number = peek();
      if (number.kind != Token::Kind::Integer && number.kind != Token::Kind::Real)
        fail("a probability", "as in: dropout 0.1");
      ++position;
      variant.dropout = parseNumber(number);
      if (*variant.dropout < 0 || *variant.dropout >= 1)
        report(number.range, "expected a probability in [0, 1), got " + number.text);
    } else if (accept("normalize")) {
      if (accept("softmax")) {
        variant.normalize = ast::Normalize::Softmax;
      } else if (accept("sigmoid")) {
        variant.normalize = ast::Normalize::Sigmoid;
      } else if (accept("none")) {
        variant.normalize = ast::Normalize::None;
      } else if (accept("stick_breaking")) {
        variant.normalize = ast::Normalize::StickBreaking;
      } else {
        fail("softmax, sigmoid, none or stick_breaking after 'normalize'");
      }
    } else if (at("keys") && peek(1).text == "=") {
      position += 2;
      once(variant.keys, keyword);
      variant.keys = ast::KeyList{-1, 0, parsePrimary()};
    } else if (accept("select")) {
      variant.selects.push_back(parseSelect(keyword.range));
    } else {
      fail("a statement",
           "statements start with let, where, score, weight, gate, sink, dropout, normalize, select, keys or also");
    }
  }

  int parseTileSize() {
    const Token number = peek();
    if (number.kind != Token::Kind::Integer) fail("a tile size", "as in: select tiles(64, 64) {");
    ++position;
    return static_cast<int>(std::min(parseNumber(number), 1e6));
  }

  // select := 'select' ('tiles' '(' integer ',' integer ')' | 'keys' '(' integer ')') '{' ('let' name '=' expr | 'keep' keep)* '}'
  // keep := ('topk' | 'topp' | 'near') '(' expr ',' expr ')' | 'diagonal' | 'first' primary | expr
  ast::Select parseSelect(SourceRange begin) {
    ast::Select select;
    if (accept("keys")) {
      expect("(", "after 'keys'");
      select.tileQ = parseTileSize();
      select.tileK = 1;
      expect(")", "after the number of queries that share a choice");
    } else {
      if (!accept("tiles")) fail("'tiles' or 'keys' after 'select'", "as in: select tiles(64, 64) {   or   select keys(64) {");
      expect("(", "after 'tiles'");
      select.tileQ = parseTileSize();
      expect(",", "between the tile's queries and its keys");
      select.tileK = parseTileSize();
      if (select.tileK == 1) fail("more keys a tile", "single keys are chosen by: select keys(64) {");
      expect(")", "after the tile's sizes");
    }
    expect("{", "before what is kept");
    select.range = {begin.begin, lastEnd()};
    inSelect = true;
    while (!at("}")) {
      const Token word = peek();
      if (accept("let")) {
        const Token name = expectName("the name of the let");
        expect("=", "after the name of the let");
        select.lets.push_back({name.text, parseExpr(), name.range});
      } else if (accept("keep")) {
        select.keeps.push_back(parseKeep(word.range));
      } else {
        inSelect = false;
        fail("'let' or 'keep'", "as in: keep topk(a, 8)   keep topp(a, 0.95)   keep near(a, 4.0)   keep a > 0.1   keep diagonal   keep first 1");
      }
    }
    inSelect = false;
    expect("}", "after what is kept");
    return select;
  }

  ast::Keep parseKeep(SourceRange range) {
    using Kind = ast::Keep::Kind;
    ast::Keep keep{Kind::Condition, nullptr, nullptr, range};
    const bool call = peek(1).text == "(";
    const Token::Kind next = peek(1).kind;
    if (call && (at("topk") || at("topp") || at("near"))) {
      keep.kind = at("topk") ? Kind::TopK : at("topp") ? Kind::TopP : Kind::Near;
      position += 2;
      keep.value = parseExpr();
      expect(",", "between the estimate and how much of it is kept");
      keep.amount = parseExpr();
      expect(")", "after how much is kept");
    } else if (at("first") && (next == Token::Kind::Integer || next == Token::Kind::Name)) {
      ++position;
      keep.kind = Kind::First;
      keep.amount = parsePrimary();
    } else if (accept("diagonal")) {
      keep.kind = Kind::Diagonal;
    } else {
      keep.value = parseExpr();
    }
    keep.range = {range.begin, lastEnd()};
    return keep;
  }

  // expr := 'if' expr 'then' expr 'else' expr | or
  ExprPtr parseExpr() {
    if (++depth > maxDepth) {
      report(peek().range, "expected an expression nested at most " + std::to_string(maxDepth) + " deep", "name its parts: let x = ...");
      throw SyntaxError();
    }
    ExprPtr result;
    const int begin = peek().range.begin;
    if (accept("if")) {
      ExprPtr condition = parseExpr();
      expect("then", "after the condition");
      ExprPtr yes = parseExpr();
      expect("else", "after the first branch; every if has an else");
      ExprPtr no = parseExpr();
      result = call(Function::Select, {begin, lastEnd()}, {condition, yes, no});
    } else {
      result = parseOr();
    }
    --depth;
    return result;
  }

  // or := and ('or' and)*        and := not ('and' not)*        not := 'not' not | comparison
  ExprPtr parseOr() {
    ExprPtr left = parseAnd();
    while (accept("or")) left = binary(Function::Or, left, parseAnd());
    return left;
  }
  ExprPtr parseAnd() {
    ExprPtr left = parseNot();
    while (accept("and")) left = binary(Function::And, left, parseNot());
    return left;
  }
  ExprPtr parseNot() {
    const int begin = peek().range.begin;
    int count = 0;
    while (accept("not")) ++count;
    ExprPtr result = parseComparison();
    if (count % 2) result = call(Function::Not, {begin, lastEnd()}, {result});
    return result;
  }
  ExprPtr binary(Function function, ExprPtr left, ExprPtr right) {
    return call(function, {left->range.begin, right->range.end}, {left, right});
  }

  // comparison := sum (('<' | '<=' | '>' | '>=' | '==' | '!=') sum)?
  ExprPtr parseComparison() {
    ExprPtr left = parseSum();
    for (Function function : {Function::Lt, Function::Le, Function::Gt, Function::Ge, Function::Eq,
                              Function::Ne})
      if (accept(ast::spelling(function))) {
        ExprPtr result = binary(function, left, parseSum());
        for (const char *next : {"<", "<=", ">", ">=", "==", "!="})
          if (at(next)) fail("one comparison", "write a < b and b < c instead of a < b < c");
        return result;
      }
    return left;
  }

  // sum := product (('+' | '-') product)*       product := unary (('*' | '/' | 'mod') unary)*
  ExprPtr parseSum() {
    ExprPtr left = parseProduct();
    for (;;) {
      if (accept("+"))
        left = binary(Function::Add, left, parseProduct());
      else if (accept("-"))
        left = binary(Function::Sub, left, parseProduct());
      else
        return left;
    }
  }
  ExprPtr parseProduct() {
    ExprPtr left = parseUnary();
    for (;;) {
      if (accept("*"))
        left = binary(Function::Mul, left, parseUnary());
      else if (accept("/"))
        left = binary(Function::Div, left, parseUnary());
      else if (accept("mod"))
        left = binary(Function::Mod, left, parseUnary());
      else
        return left;
    }
  }

  // unary := '-' unary | primary
  ExprPtr parseUnary() {
    const int begin = peek().range.begin;
    int count = 0;
    while (accept("-")) ++count;
    ExprPtr result = parsePrimary();
    if (count % 2) result = call(Function::Neg, {begin, lastEnd()}, {result});
    return result;
  }

  std::vector<ExprPtr> parseArguments(const char *close) {
    std::vector<ExprPtr> args;
    if (!at(close)) {
      do args.push_back(parseExpr());
      while (accept(","));
    }
    expect(close, "after the arguments");
    return args;
  }

  // primary := number | 'true' | 'false' | '(' expr ')' | 'b' | 'h' | 'i' | 'j'
  //          | name | name '[' arguments ']' | function '(' arguments ')' | 'dot' '(' expr ',' expr ')'
  // What is nested runs through here: the rest is in functions of its own, for a small frame.
  ExprPtr parsePrimary() {
    const Token &token = tokens[position];
    if (accept("(")) {
      ExprPtr result = parseExpr();
      expect(")", "after the expression");
      return result;
    }
    if (token.kind == Token::Kind::Name && !keywords.count(token.text)) {
      ++position;
      if (accept("(")) return calledBy(token, parseArguments(")"));
      if (accept("[")) return readOf(token, parseArguments("]"));
      --position;
    }
    return parseLeaf();
  }

  [[gnu::noinline]] ExprPtr parseLeaf() {
    const Token &token = tokens[position];
    if (token.kind == Token::Kind::Integer || token.kind == Token::Kind::Real) {
      ++position;
      ExprPtr result = node(Expr::Kind::Number, token.range);
      result->value = parseNumber(token);
      result->type = token.kind == Token::Kind::Integer ? ast::Type::Int : ast::Type::Float;
      if (result->type == ast::Type::Int && result->value > 1073741824.0)
        report(token.range, "expected an integer up to 2^30, got '" + token.text + "'",
               "write it with a decimal point to make it a float");
      return result;
    }
    if (token.kind != Token::Kind::Name) fail("an expression");
    if (accept("true")) return node(Expr::Kind::True, token.range);
    if (accept("false")) return node(Expr::Kind::False, token.range);
    for (auto [text, index] : {std::pair{"b", ast::Index::b}, {"h", ast::Index::h},
                               {"i", ast::Index::i}, {"j", ast::Index::j}})
      if (token.text == text) {
        ++position;
        ExprPtr result = node(Expr::Kind::Index, token.range);
        result->index = index;
        return result;
      }
    if (keywords.count(token.text)) fail("an expression");
    ++position;
    ExprPtr result = node(Expr::Kind::Name, token.range);
    result->name = token.text;
    return result;
  }

  [[gnu::noinline]] ExprPtr readOf(const Token &token, std::vector<ExprPtr> args) {
    ExprPtr result = node(Expr::Kind::Read, {token.range.begin, lastEnd()});
    result->name = token.text;
    result->args = std::move(args);
    return result;
  }

  [[gnu::noinline]] ExprPtr calledBy(const Token &token, std::vector<ExprPtr> args) {
    const SourceRange range{token.range.begin, lastEnd()};
    if (token.text == "dot") {
      if (args.size() != 2) {
        report(range, "expected 2 arguments of 'dot', got " + std::to_string(args.size()),
               "as in: dot(q[i], k[j])");
        throw SyntaxError();
      }
      ExprPtr result = node(Expr::Kind::Dot, range);
      result->args = std::move(args);
      return result;
    }
    for (ast::Pool pool : {ast::Pool::Mean, ast::Pool::MeanBefore, ast::Pool::Max, ast::Pool::Min, ast::Pool::First, ast::Pool::Last}) {
      if (token.text != ast::spelling(pool) || args.size() != 1 || args[0]->kind != Expr::Kind::Name) continue;
      if (!inSelect) break;
      ExprPtr result = node(Expr::Kind::Pooled, range);
      result->pool = pool;
      result->name = args[0]->name;
      return result;
    }
#define WEFT_FUNCTION(id, spell, count, typing)                                             \
  if (token.text == spell && Function::id != Function::ToFloat) {                           \
    if (args.size() != count) {                                                             \
      report(range, "expected " #count " argument(s) of '" spell "', got " +                \
                        std::to_string(args.size()));                                       \
      throw SyntaxError();                                                                  \
    }                                                                                       \
    return call(Function::id, range, std::move(args));                                      \
  }
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
    report(token.range, "unknown function '" + token.text + "'",
           inSelect ? "of the rows of a tile, as in dot(mean_before(q), mean(k)): mean mean_before max min first last"
                    : "functions: dot min max clamp abs exp exp2 log log1p sqrt rsqrt sin cos tanh sigmoid "
           "relu softplus floor ceil round pow triangle");
    throw SyntaxError();
  }
};

}  // namespace

ParsedVariants parseFile(std::string_view source, Diagnostics &diagnostics) {
  // A bound on the words, and the parser's on nesting, keep time, memory and every stack small.
  std::vector<Token> tokens;
  if (source.size() <= 1u << 20) tokens = tokenize(source);
  if (tokens.empty() || tokens.size() > 20000) {
    diagnostics.report({0, 1}, "expected a text of at most 1 MiB and 20,000 words");
    return {};
  }
  return Parser(source, std::move(tokens), diagnostics).run();
}

}  // namespace weft
