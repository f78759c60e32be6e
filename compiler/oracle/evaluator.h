// Scalar expressions in double precision, with a tape for their derivatives.
#pragma once

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compiler/language/ast.h"
#include "compiler/reference.h"

namespace weft::reference {

/// One value on the tape: how it came from up to three others, or, recorded, from floats of inputs: of a read one, of a
/// dot `width` of two.
struct Node {
  double value = 0;
  int parents[3] = {-1, -1, -1};
  double slopes[3] = {0, 0, 0};
  int inputs[2] = {-1, -1};     ///< numbers in the declaration
  int64_t offsets[2] = {0, 0};  ///< of the first float of each
  int64_t width = 1;
};

class Evaluator {
 public:
  Evaluator(const ast::Variant &variant, const std::map<std::string, Array> &inputs);

  std::map<std::string, int64_t> dims;
  std::map<std::string, Array> gradients;  ///< of the float inputs, added to by backward()
  bool single = false;                     ///< each float is rounded to f32
  const ast::Select *selecting = nullptr;  ///< the pair is the first one of a tile of it
  std::vector<Node> tape;

  /// The pair that is meant from here on; what was evaluated is forgotten. `record`: for backward().
  void start(int64_t b, int64_t h, int64_t i, int64_t j, bool record);
  /// Its place on the tape.
  int eval(const ast::ExprPtr &expr);
  double value(const ast::ExprPtr &expr) { return tape[eval(expr)].value; }
  /// Adds what follows from the cotangents of places on the tape to the gradients.
  void backward(const std::vector<std::pair<int, double>> &cotangents);

 private:
  const ast::Variant &variant;
  int64_t b = 0, h = 0, i = 0, j = 0;
  std::vector<const Array *> arrays;  ///< of the inputs by their numbers
  std::vector<Array *> gradientOf;    ///< the same, null where there is none
  int64_t heads = 1;                  ///< of q
  struct Place {
    int64_t pair = 0;
    int node = 0;
  };
  std::unordered_map<const ast::Expr *, Place> places;  ///< on the tape, of the pair that it says
  int64_t pair = 0;                                     ///< counts them
  bool recording = false;

  bool seen(const ast::Expr *expr) const;

  int push(double value);
  int compute(const ast::Expr &expr);
  int read(const ast::Expr &expr);
  int segment(const ast::Expr &expr);
  int dot(const ast::Expr &expr);
  int call(const ast::Expr &expr);
  int64_t offsetOf(const ast::Expr &read);
  /// Adds what follows from the cotangent of a read or a dot to the gradients of its inputs.
  void toInputs(const Node &node, double cotangent);
  std::vector<double> pooled(const ast::Expr &expr);
};

/// False where the weight of the pair is 0 or less: a NaN counts, and shows; a factor of 0 takes the whole weight with
/// it.
bool weighs(Evaluator &evaluator, const ast::KeySet &set);

}  // namespace weft::reference
