#include "compiler/language/parser.h"

#include "compiler/language/parse_expressions.h"

namespace weft {
namespace {

using ast::ExprPtr;

class Parser : ExpressionParser {
 public:
  using ExpressionParser::termCounts;

  Parser(std::string_view source, std::vector<Token> tokens, Diagnostics &diagnostics)
      : ExpressionParser(std::move(tokens), diagnostics), source(source) {}

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
          report(peek().range, "expected at most " + std::to_string(maxVariants) + " variants in one text",
                 "give each its file");
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
  static constexpr size_t maxVariants = 100, maxInputs = 100, maxDims = 8;

  std::string_view source;

  // variant := 'attention' name '(' parameter (',' parameter)* ')' '{' statement* '}'
  std::shared_ptr<ast::Variant> parseVariant() {
    auto variant = std::make_shared<ast::Variant>();
    definitions.clear();
    unfolded = 0;
    wholeConstants.clear();
    dims.clear();
    const int begin = peek().range.begin;
    if (!at("attention")) fail("'attention'", "a variant starts with: attention name(q: [B, H, T, D], ...) {");
    ++position;
    const Token name = expectName("the variant's name");
    variant->name = name.text;
    variant->range = name.range;
    expect("(", "after the variant's name");
    variant->parameters = lastEnd() - begin;
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

  // bound := ['-'] number | dim ['/' number] [('+' | '-') number]
  Bound parseBound() {
    Bound bound;
    auto number = [&] {
      const Token token = peek();
      if (token.kind != Token::Kind::Integer && token.kind != Token::Kind::Real)
        fail("a number or a dim", "as in: in 2 .. 8   in 0 .. T   in 1 .. S / 64 + 1");
      ++position;
      return parseNumber(token);
    };
    if (peek().kind == Token::Kind::Name) {
      bound.dim = expectName("a number or a dim").text;
      if (accept("/")) bound.divisor = number();
      if (at("+") || at("-")) bound.offset = accept("-") ? -number() : (++position, number());
    } else {
      bound.offset = accept("-") ? -number() : number();
    }
    return bound;
  }

  // values := ['in' [bound] '..' [bound]] ['typical' bound ['..' bound]] ['rising']
  InputRange parseValues() {
    InputRange values;
    // Where a range or what follows it ends.
    auto ends = [&] { return at(",") || at(")") || at("typical") || at("rising"); };
    if (accept("in")) {
      if (!at("..")) values.low = parseBound();
      expect("..", "between the bounds; as in: in 2 .. 8");
      if (!ends()) values.high = parseBound();
      if (!values.low && !values.high) fail("a bound before or after '..'");
    }
    if (accept("typical")) {
      values.typicalLow = parseBound();
      values.typicalHigh = accept("..") ? parseBound() : values.typicalLow;
    }
    values.rising = accept("rising");
    return values;
  }

  void addInput(ast::Variant &variant, ast::Input input) {
    if (variant.inputs.size() == maxInputs) {
      report(input.range, "expected at most " + std::to_string(maxInputs) + " inputs");
      throw SyntaxError();
    }
    variant.inputs.push_back(std::move(input));
  }

  // parameter := 'const' name [':' ('float' | 'int')] '=' ['-'] number | 'grouped' | 'pieces' | 'origin' | 'lengths'
  //            | name ':' ['int' | 'bool'] '[' (dim (',' dim)*)? ']' values
  void parseParameter(ast::Variant &variant) {
    if (accept("const")) {
      const Token name = expectName("the constant's name");
      bool whole = false;
      if (accept(":")) {
        whole = accept("int");
        if (!whole && !accept("float")) fail("'int' or 'float' after ':'", "as in: const window: int = 128");
      }
      expect("=", "after the constant's name");
      const bool negative = accept("-");
      const Token number = peek();
      if (number.kind != Token::Kind::Integer && number.kind != Token::Kind::Real)
        fail("a number", "a constant has a literal value, as in: const soft = 32.0");
      ++position;
      const double value = parseNumber(number);
      if (whole && (number.kind != Token::Kind::Integer || value > 0x1p30))
        report(number.range, "expected an integer up to 2^30, got '" + number.text + "'");
      variant.constants.push_back({name.text, negative ? -value : value, whole, name.range});
      if (whole) wholeConstants[name.text] = static_cast<int64_t>(variant.constants.back().value);
      return;
    }
    const Token name = expectName("an input's name");
    for (const auto &[word, said] : {std::pair("origin", &variant.origin), std::pair("grouped", &variant.grouped),
                                     std::pair("pieces", &variant.pieces)})
      if (name.text == word && (at(",") || at(")"))) {
        if (*said) report(name.range, std::string("expected '") + word + "' once");
        *said = true;
        return;
      }
    ast::Input input;
    input.name = name.text;
    input.range = name.range;
    if (name.text == "lengths" && (at(",") || at(")"))) {
      // One input named so: a second one is no new name.
      variant.lengths = static_cast<int>(variant.inputs.size());
      input.element = ast::ElementClass::Int;
      input.dims = {"B"};
      input.values.low = Bound{};
      input.values.high = Bound{"S"};
      addInput(variant, std::move(input));
      return;
    }
    expect(":", "after the input's name");
    if (accept("int")) input.element = ast::ElementClass::Int;
    else if (accept("bool")) input.element = ast::ElementClass::Bool;
    else accept("float");
    expect("[", "before the dims; as in: q: [B, H, T, D]");
    if (!at("]")) {
      do input.dims.push_back(expectName("a dim's name").text);
      while (accept(","));
    }
    expect("]", "after the dims");
    dims.insert(input.dims.begin(), input.dims.end());
    input.valuesRange.begin = peek().range.begin;
    input.values = parseValues();
    input.valuesRange.end = lastEnd();
    if (input.dims.size() > maxDims)
      report(name.range, "expected an input of at most " + std::to_string(maxDims) + " dims, got " +
                             std::to_string(input.dims.size()));
    addInput(variant, std::move(input));
  }

  template <class Slot>
  void once(const Slot &slot, const Token &keyword) {
    if (slot)
      report(keyword.range, "expected one '" + keyword.text + "', got a second one", "combine them in one expression");
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
    if (set.values < 0)
      report(name.range, "unknown input '" + name.text + "'",
             "as in: also sv { score dot(q[i], sk[j]) }   with sk: [B, H, N, D], sv: [B, H, N, E]");
    expect("{", "before what is said of its keys");
    while (!at("}"))
      if (!parsePair(set)) fail("'let', 'where', 'score', 'weight' or 'gate' in the block of 'also'");
    expect("}", "after what is said of its keys");
    return set;
  }

  // statement := pair | definition | also | 'sink' expr | 'dropout' number | 'normalize' normaliser | select
  //            | 'keys' '=' name ('[' arguments ']')?
  void parseStatement(ast::Variant &variant) {
    if (parsePair(variant.sets[0])) return;
    const Token keyword = peek();
    if (atDefinition()) {
      ++position;
      return parseDefinition();
    }
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
      parseNormalizer(variant);
    } else if (at("keys") && peek(1).text == "=") {
      position += 2;
      once(variant.keys, keyword);
      variant.keys = ast::KeyList{-1, 0, parsePrimary()};
    } else if (accept("select")) {
      variant.selects.push_back(parseSelect(keyword.range));
    } else {
      fail(
          "a statement",
          "statements start with let, def, where, score, weight, gate, sink, dropout, normalize, select, keys or also");
    }
  }

  void parseNormalizer(ast::Variant &variant) {
    const NormalizerFacts *named = normalizerNamed(peek().text);
    if (!named) {
      const auto all = allNormalizers();
      std::string names;
      for (size_t at = 0; at < all.size(); ++at)
        names += (at == 0 ? "" : at + 1 < all.size() ? ", " : " or ") + std::string(all[at]->name);
      fail(names + " after 'normalize'");
    }
    ++position;
    variant.normalizer = named;
  }

  int parseTileSize() {
    const Token number = peek();
    if (number.kind != Token::Kind::Integer) fail("a tile size", "as in: select tiles(64, 64) {");
    ++position;
    return static_cast<int>(std::min(parseNumber(number), 1e6));
  }

  // select := 'select' ('tiles' '(' integer ',' integer ')' | 'keys' '(' integer ')') '{' ('let' name '=' expr | 'keep'
  // keep)* '}' keep := ('topk' | 'topp' | 'near') '(' expr ',' expr ')' | 'diagonal' | 'first' primary | expr
  ast::Select parseSelect(SourceRange begin) {
    ast::Select select;
    if (accept("keys")) {
      expect("(", "after 'keys'");
      select.tileQ = parseTileSize();
      select.tileK = 1;
      expect(")", "after the number of queries that share a choice");
    } else {
      if (!accept("tiles"))
        fail("'tiles' or 'keys' after 'select'",
             "as in: select tiles(64, 64) {   or   select keys(64) {   or, of a given map: select tiles(64, 64) { keep "
             "map[h, i div 64, j div 64] }");
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
        fail("'let' or 'keep'",
             "as in: keep topk(a, 8)   keep topp(a, 0.95)   keep near(a, 4.0)   keep a > 0.1   keep diagonal   keep "
             "first 1");
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
};

}  // namespace

std::vector<TermCount> termCounts(std::string_view source) {
  Diagnostics diagnostics(source, "");
  Parser parser(source, tokenize(source), diagnostics);
  parser.run();
  return parser.termCounts;
}

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
