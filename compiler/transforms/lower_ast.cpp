#include "compiler/transforms/lower_ast.h"

#include <cmath>
#include <map>
#include <unordered_map>

#include "compiler/dialect/moved_index.h"
#include "compiler/kernel_image.h"
#include "compiler/language/origin.h"
#include "compiler/language/selection.h"
#include "compiler/transforms/scalar_builder.h"
#include "llvm/ADT/STLExtras.h"

namespace weft {
namespace {

using ast::Expr;
using Kind = Expr::Kind;

class AstLowering {
 public:
  AstLowering(const ast::Variant &variant, mlir::MLIRContext &context) : variant(variant), builder(&context) {}

  mlir::OwningOpRef<mlir::ModuleOp> run() {
    mlir::OwningOpRef<mlir::ModuleOp> module = mlir::ModuleOp::create(builder.getUnknownLoc(), variant.name);
    describeInputs(*module);
    builder.setInsertionPointToEnd(module->getBody());
    for (size_t at = 0; at < variant.sets.size(); ++at) lowerSet(variant.sets[at], static_cast<int32_t>(at));
    if (variant.sink) program("sink", [&](ScalarBuilder &) { return Results{{"sink", lower(*variant.sink)}}; });
    for (size_t round = 0; round < variant.selects.size(); ++round) lowerSelect(variant.selects[round], round);
    return module;
  }

 private:
  using Results = std::vector<std::pair<llvm::StringRef, mlir::Value>>;

  const ast::Variant &variant;
  mlir::OpBuilder builder;
  mlir::Block *block = nullptr;
  const ast::Select *selecting = nullptr;
  const std::vector<ast::PooledInput> pooledRows = ast::pooledInputs(variant);
  std::unordered_map<const Expr *, mlir::Value> lowered;

  void describeInputs(mlir::ModuleOp module) {
    mlir::SmallVector<mlir::Attribute> inputs;
    const char *elements[] = {"float", "int", "bool"};
    for (const ast::Input &input : variant.inputs) {
      mlir::SmallVector<llvm::StringRef> dims(input.dims.begin(), input.dims.end());
      inputs.push_back(builder.getDictionaryAttr(
          {builder.getNamedAttr("name", builder.getStringAttr(input.name)),
           builder.getNamedAttr("dims", builder.getStrArrayAttr(dims)),
           builder.getNamedAttr("element", builder.getStringAttr(elements[static_cast<int>(input.element)]))}));
    }
    module->setAttr("weft.inputs", builder.getArrayAttr(inputs));
    mlir::SmallVector<mlir::Attribute> sets;
    for (const ast::KeySet &set : llvm::drop_begin(variant.sets))
      sets.push_back(builder.getDictionaryAttr(
          {builder.getNamedAttr("dim", builder.getStringAttr(set.dim)),
           builder.getNamedAttr("values", builder.getStringAttr(variant.inputs[set.values].name))}));
    if (!sets.empty()) module->setAttr("weft.also", builder.getArrayAttr(sets));
    if (variant.keys) {
      const ast::Input &list = variant.inputs[variant.keys->input];
      module->setAttr("weft.keys",
                      builder.getDictionaryAttr(
                          {builder.getNamedAttr("input", builder.getStringAttr(list.name)),
                           builder.getNamedAttr("dim", builder.getStringAttr(list.dims.back())),
                           builder.getNamedAttr("tile", builder.getI32IntegerAttr(variant.keys->tile)),
                           builder.getNamedAttr("rows", builder.getI32IntegerAttr(static_cast<int>(variant.rows())))}));
    }
    if (variant.selectsKeys())
      module->setAttr("weft.keys",
                      builder.getDictionaryAttr(
                          {builder.getNamedAttr("input", builder.getStringAttr(selectedKeys)),
                           builder.getNamedAttr("dim", builder.getStringAttr("S")),
                           builder.getNamedAttr("tile", builder.getI32IntegerAttr(variant.selects.back().tileQ))}));
    mlir::SmallVector<mlir::Attribute> pools;
    for (const ast::PooledInput &pooled : ast::pooledInputs(variant))
      pools.push_back(builder.getDictionaryAttr(
          {builder.getNamedAttr("pool", builder.getStringAttr(ast::spelling(pooled.pool))),
           builder.getNamedAttr("input", builder.getStringAttr(variant.inputs[pooled.input].name)),
           builder.getNamedAttr("tile", builder.getI32IntegerAttr(pooled.tile))}));
    module->setAttr("weft.pools", builder.getArrayAttr(pools));
    module->setAttr("weft.normalize", builder.getStringAttr(variant.normalizer->name));
  }

  /// The pairs of one set of keys.
  void lowerSet(const ast::KeySet &set, int32_t number) {
    program(ofKeys("forward", set.dim), [&](ScalarBuilder &scalar) {
      mlir::Value mask = scalar.constantBool(true);
      for (const ast::ExprPtr &where : set.wheres) mask = scalar.map(Function::And, {mask, lower(*where)});
      mask = dialect::MaskOp::create(builder, scalar.loc, builder.getI1Type(), mask);
      Results results{{"mask", mask}, {"score", lower(*set.score)}};
      if (set.weight) {
        // A pair counts unless its weight is 0; so does one whose weight is NaN, which then shows. A factor that is 0
        // takes the whole weight with it, whatever the others are: what is left out tile by tile is so pair by pair.
        mlir::Value weight = lower(*set.weight), zero = scalar.constant(0), counts = mask;
        const std::vector<mlir::Value> factors = ScalarBuilder::parts(weight, Function::Mul);
        if (factors.size() > 1)
          for (mlir::Value factor : factors)
            if (dialect::constantOf(factor).value_or(0) == 0)
              counts = scalar.map(Function::And, {counts, scalar.map(Function::Ne, {factor, zero})});
        counts =
            scalar.map(Function::And, {counts, scalar.map(Function::Not, {scalar.map(Function::Le, {weight, zero})})});
        results.insert(results.end(), {{"weight", weight}, {"counts", counts}});
      }
      if (set.gate) results.push_back({"gate", lower(*set.gate)});
      if (variant.dropout && *variant.dropout > 0) {
        mlir::Value random = dialect::RandomOp::create(builder, scalar.loc, dialect::realType(builder.getContext()),
                                                       number, variant.origin);
        mlir::Value kept = scalar.map(Function::Ge, {random, scalar.constant(*variant.dropout)});
        results.push_back(
            {"dropout", scalar.select(kept, scalar.constant(1 / (1 - *variant.dropout)), scalar.constant(0))});
      }
      return results;
    });
  }

  /// One round: what each `keep` asks of a tile, named by what is done with it.
  void lowerSelect(const ast::Select &select, size_t round) {
    using Keep = ast::Keep::Kind;
    selecting = &select;
    auto op = program("select_" + std::to_string(round), [&](ScalarBuilder &s) {
      mlir::Value i = block->getArgument(2), j = block->getArgument(3);
      mlir::Value sizeQ = s.constantInt(select.tileQ), sizeK = s.constantInt(select.tileK);
      Results results;
      for (const ast::Keep &keep : select.keeps) {
        switch (keep.kind) {
          case Keep::Diagonal:
            results.push_back({"always", s.map(Function::And, {s.map(Function::Lt, {i, s.add(j, sizeK)}),
                                                               s.map(Function::Lt, {j, s.add(i, sizeQ)})})});
            break;
          case Keep::First:
            results.push_back({"always", s.map(Function::Lt, {j, s.mul(lower(*keep.amount), sizeK)})});
            break;
          case Keep::Condition:
            results.push_back({ast::holdsDot(*keep.value) ? "where" : "always", lower(*keep.value)});
            break;
          case Keep::TopK:
          case Keep::TopP:
          case Keep::Near:
            results.push_back({keep.kind == Keep::TopK   ? "topk"
                               : keep.kind == Keep::TopP ? "topp"
                                                         : "near",
                               lower(*keep.value)});
            results.push_back({"amount", lower(*keep.amount)});
            break;
        }
      }
      return results;
    });
    op->setAttr("weft.tiles", builder.getDenseI32ArrayAttr({select.tileQ, select.tileK}));
    selecting = nullptr;
  }

  /// The buffer of a pooled input.
  std::string pooledName(const Expr &expr) const {
    const bool queries = variant.inputs[expr.input].dims[2] == "T";
    const ast::PooledInput own{expr.pool, expr.input, queries ? selecting->tileQ : selecting->tileK};
    return "pool." + std::to_string(std::find(pooledRows.begin(), pooledRows.end(), own) - pooledRows.begin());
  }

  template <class Body>
  dialect::PairwiseOp program(const std::string &name, Body body) {
    mlir::OpBuilder::InsertionGuard guard(builder);
    mlir::Location loc = builder.getUnknownLoc();
    auto op = dialect::PairwiseOp::create(builder, loc, name);
    block = builder.createBlock(&op.getBody());
    for (int at = 0; at < 4; ++at) block->addArgument(builder.getI32Type(), loc);
    lowered.clear();
    ScalarBuilder scalar(builder, loc);
    Results results = body(scalar);
    mlir::SmallVector<llvm::StringRef> names;
    mlir::SmallVector<mlir::Value> values;
    for (auto &[resultName, value] : results) {
      names.push_back(resultName);
      values.push_back(value);
    }
    dialect::YieldOp::create(builder, loc, builder.getStrArrayAttr(names), values);
    return op;
  }

  mlir::Location location(const Expr &expr) {
    return mlir::FileLineColLoc::get(builder.getContext(), variant.name, 1, expr.range.begin + 1);
  }

  /// A vector division costs as much as many products. Its divisor's reciprocal serves where it is
  /// exact (a power of two), or where the dividend is a product of rows, perhaps divided before, whose rounding is
  /// larger, and the divisor is the same for all pairs. Distances keep their division: masks hang on them.
  static bool reciprocalFits(const Expr &division) {
    const Expr &divisor = *division.args[1];
    if (divisor.kind == Kind::Number) {
      int exponent;
      if (divisor.value != 0 && std::abs(std::frexp(divisor.value, &exponent)) == 0.5) return true;
    }
    return isScaledDot(*division.args[0]) && isSameForAllPairs(divisor);
  }

  /// A dot, divided a few times at most by what is the same for all pairs.
  static bool isScaledDot(const Expr &expr) {
    const Expr *own = &expr;
    for (int most = 4; most > 0 && own->kind == Kind::Call && own->function == Function::Div; --most) {
      if (!isSameForAllPairs(*own->args[1])) return false;
      own = own->args[0].get();
    }
    return own->kind == Kind::Dot;
  }

  static bool isSameForAllPairs(const Expr &expr) {
    int budget = 100;
    return sameForAllPairs(expr, budget);
  }

  /// False also where more than `budget` expressions would have to be looked at.
  static bool sameForAllPairs(const Expr &expr, int &budget) {
    if (--budget < 0 || expr.kind == Kind::Dot) return false;
    if (expr.kind == Kind::Index && (expr.index == ast::Index::i || expr.index == ast::Index::j)) return false;
    for (const ast::ExprPtr &arg : expr.args)
      if (!sameForAllPairs(*arg, budget)) return false;
    return true;
  }

  /// Each expression once, what it is made of first. The rows of a dot are named by it, not lowered.
  mlir::Value lower(const Expr &root) {
    std::vector<const Expr *> path{&root};
    while (!path.empty()) {
      const Expr &expr = *path.back();
      const size_t before = path.size();
      if (!lowered.count(&expr) && expr.kind != Kind::Dot)
        for (const ast::ExprPtr &arg : llvm::reverse(expr.args))
          if (!lowered.count(arg.get())) path.push_back(arg.get());
      if (path.size() > before) continue;
      path.pop_back();
      if (lowered.count(&expr)) continue;
      ScalarBuilder scalar(builder, location(expr));
      mlir::Value value = build(expr, scalar);
      lowered[&expr] = value;
    }
    return lowered.at(&root);
  }

  mlir::Value build(const Expr &expr, ScalarBuilder &scalar) {
    switch (expr.kind) {
      case Kind::Number:
        return expr.type == ast::Type::Int ? scalar.constantInt(static_cast<int64_t>(expr.value))
                                           : scalar.constant(expr.value);
      case Kind::True: return scalar.constantBool(true);
      case Kind::False: return scalar.constantBool(false);
      case Kind::Index: return block->getArgument(static_cast<unsigned>(expr.index));
      case Kind::Dim: return dialect::DimOp::create(builder, scalar.loc, builder.getI32Type(), expr.name);
      case Kind::Let: return lowered.at(expr.args[0].get());
      case Kind::Read: {
        mlir::SmallVector<mlir::Value> indices;
        for (const ast::ExprPtr &arg : expr.args) indices.push_back(lowered.at(arg.get()));
        mlir::Type type = expr.type == ast::Type::Float ? mlir::Type(dialect::realType(builder.getContext()))
                          : expr.type == ast::Type::Int ? mlir::Type(builder.getI32Type())
                                                        : mlir::Type(builder.getI1Type());
        auto read = dialect::ReadOp::create(builder, scalar.loc, type, expr.name, indices, expr.segment);
        if (const int moved = ast::movedIndices(variant, expr)) dialect::setMovedIndices(read, moved);
        return read;
      }
      case Kind::Dot:
        return dialect::DotOp::create(builder, scalar.loc, dialect::realType(builder.getContext()),
                                      selecting ? pooledName(*expr.args[0]) : expr.args[0]->name,
                                      selecting ? pooledName(*expr.args[1]) : expr.args[1]->name);
      case Kind::Call: {
        mlir::SmallVector<mlir::Value> args;
        for (const ast::ExprPtr &arg : expr.args) args.push_back(lowered.at(arg.get()));
        if (expr.function == Function::Div && reciprocalFits(expr)) {
          auto divisor = dialect::constantOf(args[1]);
          mlir::Value factor = divisor ? scalar.constant(1 / *divisor) : scalar.div(scalar.constant(1), args[1]);
          auto [x, before] =
              isScaledDot(*expr.args[0]) ? ScalarBuilder::uniformFactor(args[0]) : std::pair(args[0], mlir::Value());
          return before ? scalar.mul(x, scalar.mul(before, factor)) : scalar.mul(args[0], factor);
        }
        return scalar.map(expr.function, args);
      }
      case Kind::Name:
      case Kind::Pooled: break;
    }
    return scalar.constant(0);
  }
};

}  // namespace

mlir::OwningOpRef<mlir::ModuleOp> lowerAst(const ast::Variant &variant, mlir::MLIRContext &context) {
  return AstLowering(variant, context).run();
}

}  // namespace weft
