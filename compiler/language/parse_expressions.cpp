#include "compiler/language/parse_expressions.h"

#include <algorithm>
#include <optional>

#include "compiler/dims.h"
#include "compiler/language/nodes.h"
#include "compiler/terms.h"

namespace weft {

using ast::Expr;
using ast::ExprPtr;
using ast::Function;

namespace {

ExprPtr binary(Function function, const ExprPtr &left, const ExprPtr &right) {
  return ast::makeCall(function, {left->range.begin, right->range.end}, {left, right});
}

}  // namespace

// expr := 'if' expr 'then' expr 'else' expr | or
ExprPtr ExpressionParser::parseExpr() {
  if (++depth > maxDepth) tooDeep(peek().range);
  ExprPtr result;
  const int begin = peek().range.begin;
  if (accept("if")) {
    ExprPtr condition = parseExpr();
    expect("then", "after the condition");
    ExprPtr yes = parseExpr();
    expect("else", "after the first branch; every if has an else");
    ExprPtr no = parseExpr();
    result = ast::makeCall(Function::Select, {begin, lastEnd()}, {condition, yes, no});
  } else {
    result = parseOr();
  }
  --depth;
  return result;
}

// or := and ('or' and)*        and := not ('and' not)*        not := 'not' not | comparison
ExprPtr ExpressionParser::parseOr() {
  ExprPtr left = parseAnd();
  while (accept("or")) left = binary(Function::Or, left, parseAnd());
  return left;
}

ExprPtr ExpressionParser::parseAnd() {
  ExprPtr left = parseNot();
  while (accept("and")) left = binary(Function::And, left, parseNot());
  return left;
}

ExprPtr ExpressionParser::parseNot() {
  const int begin = peek().range.begin;
  int count = 0;
  while (accept("not")) ++count;
  ExprPtr result = parseComparison();
  if (count % 2) result = ast::makeCall(Function::Not, {begin, lastEnd()}, {result});
  return result;
}

// comparison := operation (('<' | '<=' | '>' | '>=' | '==' | '!=') operation)?
ExprPtr ExpressionParser::parseComparison() {
  ExprPtr left = parseOperation(0);
  for (Function function : {Function::Lt, Function::Le, Function::Gt, Function::Ge, Function::Eq, Function::Ne})
    if (accept(ast::spelling(function))) {
      ExprPtr result = binary(function, left, parseOperation(0));
      for (const char *next : {"<", "<=", ">", ">=", "==", "!="})
        if (at(next)) fail("one comparison", "write a < b and b < c instead of a < b < c");
      return result;
    }
  return left;
}

namespace {

/// An operation between two numbers, and how tightly it binds.
struct Operator {
  std::string_view spelling;
  Function function;
  int level;
};

constexpr Operator operators[] = {
    {"|", Function::BitOr, 0},      {"^", Function::BitXor, 1},      {"&", Function::BitAnd, 2},
    {"<<", Function::ShiftLeft, 3}, {">>", Function::ShiftRight, 3}, {"+", Function::Add, 4},
    {"-", Function::Sub, 4},        {"*", Function::Mul, 5},         {"/", Function::Div, 5},
    {"mod", Function::Mod, 5},      {"%", Function::Mod, 5},         {"div", Function::FloorDiv, 5},
};

const Operator *operatorOf(const Token &token) {
  for (const Operator &own : operators)
    if (token.text == own.spelling) return &own;
  return nullptr;
}

}  // namespace

// operation := unary (operator unary)*   with the operators of `operators`, from the left, the tightest first
ExprPtr ExpressionParser::parseOperation(int loosest) {
  ExprPtr left = parseUnary();
  for (;;) {
    const Operator *own = operatorOf(peek());
    if (!own || own->level < loosest) return left;
    ++position;
    left = binary(own->function, left, parseOperation(own->level + 1));
  }
}

// unary := '-' unary | primary
ExprPtr ExpressionParser::parseUnary() {
  const int begin = peek().range.begin;
  int count = 0;
  while (accept("-")) ++count;
  ExprPtr result = parsePrimary();
  if (count % 2) result = ast::makeCall(Function::Neg, {begin, lastEnd()}, {result});
  return result;
}

std::vector<ExprPtr> ExpressionParser::parseArguments(const char *close) {
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
ExprPtr ExpressionParser::parsePrimary() {
  const Token &token = tokens[position];
  if (accept("(")) {
    ExprPtr result = parseExpr();
    expect(")", "after the expression");
    return result;
  }
  if (token.kind == Token::Kind::Name && !isKeyword(token.text)) {
    if (atTerms()) return parseTerms();
    ++position;
    if (accept("(")) return calledBy(token, parseArguments(")"));
    if (accept("[")) return readOf(token, parseArguments("]"));
    --position;
  }
  return ExpressionParser::parseLeaf();
}

[[gnu::noinline]] ExprPtr ExpressionParser::parseLeaf() {
  const Token &token = tokens[position];
  if (token.kind == Token::Kind::Integer || token.kind == Token::Kind::Real) {
    ++position;
    ExprPtr result = ast::makeNode(Expr::Kind::Number, token.range);
    result->value = parseNumber(token);
    result->type = token.kind == Token::Kind::Integer ? ast::Type::Int : ast::Type::Float;
    if (result->type == ast::Type::Int && result->value > 1073741824.0)
      report(token.range, "expected an integer up to 2^30, got '" + token.text + "'",
             "write it with a decimal point to make it a float");
    return result;
  }
  if (token.kind != Token::Kind::Name) fail("an expression");
  if (accept("true")) return ast::makeNode(Expr::Kind::True, token.range);
  if (accept("false")) return ast::makeNode(Expr::Kind::False, token.range);
  for (auto [text, index] :
       {std::pair{"b", ast::Index::b}, {"h", ast::Index::h}, {"i", ast::Index::i}, {"j", ast::Index::j}})
    if (token.text == text) {
      ++position;
      ExprPtr result = ast::makeNode(Expr::Kind::Index, token.range);
      result->index = index;
      return result;
    }
  if (isKeyword(token.text)) fail("an expression");
  ++position;
  ExprPtr result = ast::makeNode(Expr::Kind::Name, token.range);
  result->name = token.text;
  return result;
}

[[gnu::noinline]] ExprPtr ExpressionParser::readOf(const Token &token, std::vector<ExprPtr> args) {
  ExprPtr result = ast::makeNode(Expr::Kind::Read, {token.range.begin, lastEnd()});
  result->name = token.text;
  result->args = std::move(args);
  return result;
}

void ExpressionParser::tooDeep(SourceRange range) {
  report(range, "expected an expression nested at most " + std::to_string(maxDepth) + " deep",
         "name its parts: let x = ...");
  throw SyntaxError();
}

ExprPtr ExpressionParser::unfolding(const Definition &definition, const std::vector<ExprPtr> &args, SourceRange range,
                                    const std::string &wanted) {
  ExprPtr result;
  try {
    result = unfold(definition, args, unfolded);
  } catch (const NoInput &wrong) {
    report(wrong.argument->range, "expected " + wanted);
    throw SyntaxError();
  }
  if (result) return result;
  report(range, "expected functions that unfold to at most " + std::to_string(mostUnfolded) + " expressions, got more",
         "name what they have in common: let x = ...");
  throw SyntaxError();
}

ExprPtr ExpressionParser::shallow(ExprPtr expr, SourceRange range) {
  if (depthOf(*expr) > maxDepth) tooDeep(range);
  return expr;
}

namespace {

/// How the terms of any, all and sum are joined.
std::optional<Function> joinerOf(const std::string &word) {
  if (word == "any") return Function::Or;
  if (word == "all") return Function::And;
  if (word == "sum") return Function::Add;
  return std::nullopt;
}

/// Terms from `begin` on, as deep as the logarithm of their number.
ExprPtr joined(Function function, const std::vector<ExprPtr> &terms, size_t begin, size_t end) {
  if (end - begin == 1) return terms[begin];
  const size_t middle = begin + (end - begin) / 2;
  return binary(function, joined(function, terms, begin, middle), joined(function, terms, middle, end));
}

}  // namespace

bool ExpressionParser::atTerms() const {
  return joinerOf(peek().text) && peek(1).text == "(" && peek(2).kind == Token::Kind::Name && peek(3).text == "<" &&
         !definitions.count(peek().text);
}

/// Of `word`, from the number or its name on. A dim's size is known when the call is.
int64_t ExpressionParser::parseTermCount(const Token &word) {
  const Token bound = tokens[position];
  const auto constant = wholeConstants.find(bound.text);
  const bool written = bound.kind == Token::Kind::Integer, named = constant != wholeConstants.end(),
             size = !written && !named && dims.count(bound.text) > 0;
  if (!written && !named && !size)
    fail("the number of terms, an integer, an int constant or a dim of an input", "as in: any(n < 8, list[i, n] == j)");
  ++position;
  if (size) {
    if (isLeadingDim(bound.text) || bound.text == "T" || bound.text == "S") {
      report(bound.range, "expected a dim of an input's own as the number of terms, got " + bound.text,
             "terms are written out in the kernel: few, and as many in each call, as in: any(n < N, list[h, n] == j)");
      throw SyntaxError();
    }
    termCounts.push_back({bound.text, bound.range});
    return 2;
  }
  const double count = written ? parseNumber(bound) : static_cast<double>(constant->second);
  if (count < 1 || count > mostTerms) {
    report(bound.range,
           "expected from 1 to " + std::to_string(mostTerms) + " terms of '" + word.text + "', got " + bound.text);
    throw SyntaxError();
  }
  return static_cast<int64_t>(count);
}

// terms := ('any' | 'all' | 'sum') '(' name '<' (integer | name) ',' expr ')'
[[gnu::noinline]] ExprPtr ExpressionParser::parseTerms() {
  const Token word = tokens[position];
  position += 2;
  Definition term;
  term.parameters = {expectName("the name of the number of a term").text};
  ++position;
  const int64_t count = parseTermCount(word);
  expect(",", "before the term");
  term.body = parseExpr();
  expect(")", "after the term");
  const SourceRange range{word.range.begin, lastEnd()};
  std::vector<ExprPtr> terms;
  for (int64_t at = 0; at < count; ++at) {
    terms.push_back(unfolding(term, {ast::makeNumber(static_cast<double>(at), range, ast::Type::Int)}, range,
                              "a number in '" + word.text + "', got an input named '" + term.parameters[0] + "'"));
  }
  return shallow(joined(*joinerOf(word.text), terms, 0, terms.size()), range);
}

void ExpressionParser::parseDefinition() {
  const Token name = expectName("the name of the function");
  Definition definition;
  expect("(", "after the function's name");
  if (!at(")")) {
    do {
      const Token parameter = expectName("a parameter's name");
      if (std::ranges::count(definition.parameters, parameter.text))
        report(parameter.range, "expected a new name, got '" + parameter.text + "', which is already declared");
      definition.parameters.push_back(parameter.text);
    } while (accept(","));
  }
  expect(")", "after the parameters");
  expect("=", "before what the function stands for");
  definition.body = parseExpr();
  bool taken = definitions.count(name.text) > 0 || name.text == "dot" || name.text == "tan" || name.text == "segment";
#define WEFT_FUNCTION(id, spell, count, typing) taken |= name.text == spell;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  if (taken) report(name.range, "expected a new name, got '" + name.text + "', which is a function");
  definitions[name.text] = std::move(definition);
}

ExprPtr ExpressionParser::unfoldedCall(const Token &token, const Definition &definition,
                                       const std::vector<ExprPtr> &args) {
  const SourceRange range{token.range.begin, lastEnd()};
  const size_t want = definition.parameters.size();
  if (args.size() != want) {
    report(range, "expected " + std::to_string(want) + " argument(s) of '" + token.text + "', got " +
                      std::to_string(args.size()));
    throw SyntaxError();
  }
  return shallow(
      unfolding(definition, args, range, "the name of an input, which '" + token.text + "' reads at an index"), range);
}

/// segment(offsets, x)
ExprPtr ExpressionParser::segmentOf(SourceRange range, const std::vector<ExprPtr> &args) {
  if (args.size() != 2 || args[0]->kind != Expr::Kind::Name) {
    report(range, "expected the name of an input and a position in 'segment'", "as in: segment(offsets, i)");
    throw SyntaxError();
  }
  ExprPtr result = ast::makeNode(Expr::Kind::Read, range);
  result->name = args[0]->name;
  result->args = {args[1]};
  result->segment = true;
  return result;
}

[[gnu::noinline]] ExprPtr ExpressionParser::calledBy(const Token &token, std::vector<ExprPtr> args) {
  const SourceRange range{token.range.begin, lastEnd()};
  if (token.text == "dot") {
    if (args.size() != 2) {
      report(range, "expected 2 arguments of 'dot', got " + std::to_string(args.size()), "as in: dot(q[i], k[j])");
      throw SyntaxError();
    }
    ExprPtr result = ast::makeNode(Expr::Kind::Dot, range);
    result->args = std::move(args);
    return result;
  }
  if (auto own = definitions.find(token.text); own != definitions.end()) return unfoldedCall(token, own->second, args);
  for (ast::Pool pool :
       {ast::Pool::Mean, ast::Pool::MeanBefore, ast::Pool::Max, ast::Pool::Min, ast::Pool::First, ast::Pool::Last}) {
    if (token.text != ast::spelling(pool) || args.size() != 1 || args[0]->kind != Expr::Kind::Name) continue;
    if (!inSelect) break;
    ExprPtr result = ast::makeNode(Expr::Kind::Pooled, range);
    result->pool = pool;
    result->name = args[0]->name;
    return result;
  }
  if (token.text == "segment") return segmentOf(range, args);
  if (token.text == "tan" && args.size() == 1)
    return ast::makeCall(Function::Div, range,
                         {ast::makeCall(Function::Sin, range, args), ast::makeCall(Function::Cos, range, args)});
#define WEFT_FUNCTION(id, spell, count, typing)                                                            \
  if (token.text == spell && Function::id != Function::ToFloat && Function::id != Function::FloorDiv) {    \
    if (args.size() != count) {                                                                            \
      report(range, "expected " #count " argument(s) of '" spell "', got " + std::to_string(args.size())); \
      throw SyntaxError();                                                                                 \
    }                                                                                                      \
    return ast::makeCall(Function::id, range, std::move(args));                                            \
  }
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  if (joinerOf(token.text)) {
    report(token.range, "expected how many terms '" + token.text + "' has, as 'n < 8' before a comma",
           "as in: any(n < 8, list[i, n] == j)");
    throw SyntaxError();
  }
  report(token.range, "unknown function '" + token.text + "'",
         inSelect ? "of the rows of a tile, as in dot(mean_before(q), mean(k)): mean mean_before max min first last"
                  : "functions: dot min max clamp abs exp exp2 log log2 log1p sqrt rsqrt sin cos tan tanh erf sigmoid "
                    "relu softplus floor ceil round pow triangle segment; of terms: any all sum");
  throw SyntaxError();
}

}  // namespace weft
