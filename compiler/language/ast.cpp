// Names of functions and types, and the printed form of a checked variant.
#include "compiler/language/ast.h"

#include <charconv>

#include "compiler/dims.h"

namespace weft::ast {

const char *spelling(Function function) {
  switch (function) {
#define WEFT_FUNCTION(id, spell, count, typing) \
  case Function::id: return spell;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  }
  return "?";
}

int arity(Function function) {
  switch (function) {
#define WEFT_FUNCTION(id, spell, count, typing) \
  case Function::id: return count;
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
  }
  return 0;
}

const char *spelling(Pool pool) {
  switch (pool) {
    case Pool::Mean: return "mean";
    case Pool::MeanBefore: return "mean_before";
    case Pool::Max: return "max";
    case Pool::Min: return "min";
    case Pool::First: return "first";
    case Pool::Last: return "last";
  }
  return "?";
}

const char *typeName(Type type) {
  switch (type) {
    case Type::Unknown: return "unknown";
    case Type::Int: return "int";
    case Type::Float: return "float";
    case Type::Bool: return "bool";
    case Type::Row: return "row";
  }
  return "?";
}

Expr::~Expr() {
  std::vector<ExprPtr> last = std::move(args);
  while (!last.empty()) {
    const ExprPtr expr = std::move(last.back());
    last.pop_back();
    if (!expr || expr.use_count() > 1) continue;
    for (ExprPtr &arg : expr->args) last.push_back(std::move(arg));
    expr->args.clear();
  }
}

TileRows Variant::rows() const {
  if (!keys || keys->tile != 1) return TileRows::Queries;
  // Heads of one G share a tile where they share its keys: list and rows of keys alike.
  auto apart = [](const Input &input) {
    return std::ranges::any_of(input.dims, [](const std::string &dim) { return isHeadDim(dim) && dim != "G"; });
  };
  auto isRowOfKeys = [](const Input &input) {
    return input.dims.size() == 4 && input.element == ElementClass::Float && !std::ranges::count(input.dims, "T");
  };
  const bool ofHeads =
      std::ranges::any_of(inputs, [&](const Input &input) { return isRowOfKeys(input) && apart(input); });
  const bool groups =
      std::ranges::any_of(inputs, [](const Input &input) { return std::ranges::count(input.dims, "G") > 0; });
  return groups && !ofHeads && !apart(inputs[keys->input]) ? TileRows::Heads : TileRows::Head;
}

int Variant::inputNamed(const std::string &inputName) const {
  for (size_t at = 0; at < inputs.size(); ++at)
    if (inputs[at].name == inputName) return static_cast<int>(at);
  return -1;
}

std::string number(double value, bool whole) {
  char text[64];
  const auto format = whole ? std::chars_format::fixed : std::chars_format::general;
  return std::string(text, std::to_chars(text, text + sizeof text, value, format, whole ? 0 : 9).ptr);
}

/// Longer ones end in an ellipsis: an expression is a graph, as a tree it may have no end.
constexpr size_t longestText = 20000;

static void print(const Expr &expr, std::string &text) {
  if (text.size() > longestText) return;
  auto list = [&] {
    for (size_t at = 0; at < expr.args.size(); ++at) {
      if (at) text += ", ";
      print(*expr.args[at], text);
    }
  };
  switch (expr.kind) {
    case Expr::Kind::Number: text += number(expr.value, expr.type == Type::Int); break;
    case Expr::Kind::True: text += "true"; break;
    case Expr::Kind::False: text += "false"; break;
    case Expr::Kind::Name:
    case Expr::Kind::Dim:
    case Expr::Kind::Let: text += expr.name; break;
    case Expr::Kind::Index: text += "bhij"[static_cast<int>(expr.index)]; break;
    case Expr::Kind::Read:
      text += expr.segment ? "segment(" + expr.name + ", " : expr.name + "[";
      list();
      text += expr.segment ? ")" : "]";
      break;
    case Expr::Kind::Dot:
      text += "dot(";
      list();
      text += ")";
      break;
    case Expr::Kind::Pooled: text += std::string(spelling(expr.pool)) + "(" + expr.name + ")"; break;
    case Expr::Kind::Call: {
      // a + b + c + ... is as deep as it is long, on its first side: that one in a loop.
      std::vector<const Expr *> spine{&expr};
      while (spine.back()->args[0]->kind == Expr::Kind::Call) spine.push_back(spine.back()->args[0].get());
      for (const Expr *call : spine) text += std::string("(") + spelling(call->function) + " ";
      print(*spine.back()->args[0], text);
      for (; !spine.empty(); spine.pop_back()) {
        for (size_t at = 1; at < spine.back()->args.size(); ++at) {
          text += ", ";
          print(*spine.back()->args[at], text);
        }
        text += ")";
      }
      break;
    }
  }
}

std::string print(const Expr &expr) {
  std::string text;
  print(expr, text);
  if (text.size() > longestText) text = text.substr(0, longestText) + "...";
  return text;
}

std::string print(const Variant &variant) {
  std::string text = "attention " + variant.name + "\n";
  if (variant.grouped) text += "  grouped\n";
  if (variant.pieces) text += "  pieces\n";
  if (variant.origin) text += "  origin\n";
  if (variant.lengths >= 0) text += "  lengths\n";
  for (const Input &input : variant.inputs) {
    text += "  input " + input.name + ": ";
    text += input.element == ElementClass::Float ? "float [" : input.element == ElementClass::Int ? "int [" : "bool [";
    for (size_t at = 0; at < input.dims.size(); ++at) text += (at ? ", " : "") + input.dims[at];
    text += "]";
    if (!input.values.empty()) text += " " + weft::print(input.values);
    text += "\n";
  }
  auto line = [&](const std::string &keyword, const ExprPtr &expr) {
    if (expr) text += "  " + keyword + " : " + typeName(expr->type) + " = " + print(*expr) + "\n";
  };
  for (const KeySet &set : variant.sets) {
    const bool own = &set == &variant.sets[0];
    if (!own) text += "  also " + variant.inputs[set.values].name + ", j below " + set.dim + "\n";
    const std::string indent = own ? "" : "  ";
    for (const Let &let : set.lets) line(indent + "let " + let.name, let.value);
    for (const ExprPtr &where : set.wheres) line(indent + "where", where);
    line(indent + "score", set.score);
    line(indent + "weight", set.weight);
    line(indent + "gate", set.gate);
  }
  line("sink", variant.sink);
  if (variant.dropout) text += "  dropout " + number(*variant.dropout, false) + "\n";
  if (variant.keys)
    text += "  keys = " + variant.inputs[variant.keys->input].name + " of each " +
            (variant.keys->tile == 1 ? "query"
             : variant.keys->tile    ? std::to_string(variant.keys->tile) + " queries"
                                     : "head") +
            "\n";
  for (const Select &select : variant.selects) {
    text += "  select " +
            (select.keys() ? "keys(" + std::to_string(select.tileQ)
                           : "tiles(" + std::to_string(select.tileQ) + ", " + std::to_string(select.tileK)) +
            ")\n";
    for (const Let &let : select.lets) line("  let " + let.name, let.value);
    for (const Keep &keep : select.keeps) {
      const char *kinds[] = {"topk", "topp", "near", "where", "diagonal", "first"};
      text += std::string("    keep ") + kinds[static_cast<int>(keep.kind)];
      for (const ExprPtr &expr : {keep.value, keep.amount})
        if (expr) text += " " + print(*expr);
      text += "\n";
    }
  }
  text += std::string("  normalize ") + variant.normalizer->name + "\n";
  return text;
}

}  // namespace weft::ast
