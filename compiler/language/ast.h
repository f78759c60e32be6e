// The checked abstract syntax of a variant. Plain data: built by the parser,
// completed (types, resolved names) by the checker, read-only after that.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/diagnostic.h"
#include "compiler/input_range.h"
#include "compiler/kernel_image.h"
#include "compiler/normalizers/facts.h"

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

/// What stands for the rows of a tile in a `select`.
enum class Pool { Mean, MeanBefore, Max, Min, First, Last };
const char *spelling(Pool pool);

struct Expr;
using ExprPtr = std::shared_ptr<Expr>;

/// One expression. `kind` says which fields mean something.
struct Expr {
  enum class Kind {
    Number,  ///< value (and Type::Int when the text was an integer)
    True,
    False,
    Name,    ///< unresolved; the checker replaces it
    Index,   ///< index
    Dim,     ///< name: a dim of the signature, int
    Let,     ///< args[0]: the defining expression, shared by every use
    Read,    ///< name: input; args: one index an explicit dim, or all dims when full
    Dot,     ///< args: two Reads of Type::Row
    Call,    ///< function, args
    Pooled,  ///< name: input; pool: of the rows of a tile (in a select)
  };
  Kind kind = Kind::Number;
  SourceRange range;
  Type type = Type::Unknown;
  double value = 0;
  std::string name;
  Index index = Index::i;
  Function function = Function::Neg;
  Pool pool = Pool::Mean;
  bool segment = false;  ///< Read: the last n whose element is at most the last index
  std::vector<ExprPtr> args;
  int input = -1;  ///< Read, Pooled: position in Variant::inputs

  Expr() = default;
  Expr(const Expr &) = delete;
  Expr &operator=(const Expr &) = delete;
  ~Expr();  ///< without recursion: a chain may be as long as a text
};

enum class ElementClass { Float, Int, Bool };

struct Input {
  std::string name;
  std::vector<std::string> dims;
  ElementClass element = ElementClass::Float;
  InputRange values;
  SourceRange range, valuesRange;
};

struct Constant {
  std::string name;
  double value;
  bool whole;  ///< an int
  SourceRange range;
};

struct Let {
  std::string name;
  ExprPtr value;
  SourceRange range;
};

/// One `keep` of a select.
struct Keep {
  enum class Kind {
    TopK,  ///< the `amount` greatest of `value`
    TopP,  ///< the fewest that hold the share `amount` of the mass of softmax(value)
    Near,  ///< where `value` is at least its greatest over the tiles kept in any case, off the diagonal, less `amount`
    Condition,  ///< where `value` holds
    Diagonal,   ///< tiles with a pair i = j
    First,      ///< the first `amount` key tiles
  };
  Kind kind;
  ExprPtr value, amount;
  SourceRange range;
};

/// Chooses tiles by what is in them. Its expressions are of a tile: i and j are its first query and key.
struct Select {
  int tileQ = 64, tileK = 64;  ///< tileK 1: single keys
  bool keys() const { return tileK == 1; }
  std::vector<Let> lets;
  std::vector<Keep> keeps;
  SourceRange range;
};

/// Keys named by lists of positions instead of all from 0 to S - 1; a negative position is none.
struct KeyList {
  int input = -1;  ///< position in Variant::inputs: int [B?, H?, N], or [B?, H?, M, N] with a list for each `tile`
                   ///< queries; G may stand for H
  int tile = 0;    ///< 0: one list for all queries; 1: M is T
  ExprPtr expr;    ///< as written: a read without its last index
};

/// Keys that share the variant's normaliser: what one pair of a query and one of them says.
struct KeySet {
  std::string dim = "S";  ///< counts the keys: j is below it
  int values = -1;        ///< position in Variant::inputs
  std::vector<Let> lets;
  ExprPtr score;
  std::vector<ExprPtr> wheres;
  ExprPtr weight;  ///< may be null: 1
  ExprPtr gate;    ///< may be null: 1
  SourceRange range;
};

struct Variant {
  std::string name;
  std::string source;  ///< the text of this variant, from `attention` to `}`
  SourceRange range;
  int parameters = 0;    ///< where in `source` the first of them begins
  bool origin = false;   ///< the tensors of a call are a piece of a longer sequence: see compiler/origin.h
  bool grouped = false;  ///< its queries are the heads of a group: see compiler/grouped.h
  bool pieces = false;   ///< each head sees a piece of the keys: see compiler/grouped.h
  int lengths = -1;      ///< the input that tells each sequence's keys (see compiler/lengths.h): position in `inputs`
  std::vector<Input> inputs;
  std::vector<Constant> constants;
  std::vector<KeySet> sets{1};    ///< the first one is that of v, any others those of `also`
  ExprPtr sink;                   ///< may be null; depends on b and h only
  std::optional<double> dropout;  ///< probability of dropping a pair
  const NormalizerFacts *normalizer = allNormalizers().front();
  std::optional<KeyList> keys;
  std::vector<Select> selects;  ///< rounds: each one looks only at what those before it kept
  bool selectsKeys() const { return !selects.empty() && selects.back().keys(); }
  /// Where each query has keys of its own, the heads that share them are the rows of a tile.
  TileRows rows() const;

  int inputNamed(const std::string &inputName) const;
};

/// Indented text of a checked variant (`weft compile --emit=ast`).
std::string print(const Variant &variant);
std::string print(const Expr &expr);  ///< lets by their names
/// Whole, or with nine digits, as f32 needs; the same in every locale.
std::string number(double value, bool whole);

}  // namespace weft::ast
