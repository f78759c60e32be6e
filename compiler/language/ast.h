// The checked abstract syntax of a variant. Plain data: built by the parser,
// completed (types, resolved names) by the checker, read-only after that.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/diagnostic.h"

namespace weft::ast {

enum class Function {
#define WEFT_FUNCTION(id, spelling, arity, typing) id,
#include "compiler/language/functions.def"
#undef WEFT_FUNCTION
};

/// The spelling in the language, e.g. "clamp" or "<=".
const char *spelling(Function function);
int arity(Function function);

enum class Type { Unknown, Int, Float, Bool, Row };
const char *typeName(Type type);

/// The index variables of a pair: batch, head, query index, key index.
enum class Index { b, h, i, j };

struct Expr;
using ExprPtr = std::shared_ptr<Expr>;

/// One expression. `kind` says which fields mean something.
struct Expr {
  enum class Kind {
    Number,  ///< value (and Type::Int when the text was an integer)
    True,
    False,
    Name,   ///< unresolved; the checker replaces it
    Index,  ///< index
    Dim,    ///< name: a dim of the signature, int
    Let,    ///< args[0]: the defining expression, shared by every use
    Read,   ///< name: input; args: one index an explicit dim, or all dims when full
    Dot,    ///< args: two Reads of Type::Row
    Call,   ///< function, args
  };
  Kind kind;
  SourceRange range;
  Type type = Type::Unknown;
  double value = 0;
  std::string name;
  Index index = Index::i;
  Function function = Function::Neg;
  std::vector<ExprPtr> args;
  int input = -1;  ///< Read: position in Variant::inputs
};

enum class ElementClass { Float, Int, Bool };

struct Input {
  std::string name;
  std::vector<std::string> dims;
  ElementClass element = ElementClass::Float;
  SourceRange range;
};

struct Constant {
  std::string name;
  double value;
  SourceRange range;
};

struct Let {
  std::string name;
  ExprPtr value;
  SourceRange range;
};

enum class Normalize { Softmax, Sigmoid, None };

struct Variant {
  std::string name;
  std::string source;  ///< the text of this variant, from `attention` to `}`
  SourceRange range;
  std::vector<Input> inputs;
  std::vector<Constant> constants;
  std::vector<Let> lets;
  ExprPtr score;
  std::vector<ExprPtr> wheres;
  ExprPtr weight;                ///< may be null: 1
  ExprPtr gate;                  ///< may be null: 1
  ExprPtr sink;                  ///< may be null; depends on b and h only
  std::optional<double> dropout;  ///< probability of dropping a pair
  Normalize normalize = Normalize::Softmax;

  int inputNamed(const std::string &inputName) const;
  /// Position of the value input, the one named `v`.
  int valueInput() const { return inputNamed("v"); }
};

/// Indented text of a checked variant (`weft compile --emit=ast`).
std::string print(const Variant &variant);
std::string print(const Expr &expr);

}  // namespace weft::ast
