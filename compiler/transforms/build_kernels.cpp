#include "compiler/transforms/build_kernels.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "compiler/internal_error.h"
#include "compiler/kernel_image.h"
#include "compiler/transforms/scalar_builder.h"
#include "compiler/transforms/signature.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/IR/IRMapping.h"

namespace weft {
namespace {

using mlir::Value;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// A dot of the pairwise program: query-side input, key-side input.
using DotPair = std::pair<std::string, std::string>;

/// What an accumulated element depends on, by the index used after the leading dims; `keyDim` counts the program's
/// keys.
std::string dependence(const std::vector<InputDescription> &inputs, dialect::AccumulateOp op, llvm::StringRef keyDim) {
  mlir::Block &block = *op->getBlock();
  for (const InputDescription &input : inputs) {
    if (op.getInput() != input.name) continue;
    const size_t own = input.dims.size() - input.leading();
    if (own == 0) return "head";
    if (own == 1 && op.getIndices().back() == block.getArgument(2) && input.dims.back() == "T") return "query";
    if (own == 1 && op.getIndices().back() == block.getArgument(3) && input.dims.back() == keyDim) return "key";
  }
  return "any";
}

class KernelBuilder {
 public:
  KernelBuilder(mlir::ModuleOp module, const KernelShape &shape)
      : module(module),
        shape(shape),
        builder(module.getContext()),
        s(builder, builder.getUnknownLoc()),
        inputs(describedInputs(module)),
        sets(describedSets(module)),
        set(&sets[0]) {
    dependences = gradientDependence(module);
    const llvm::StringRef normalize = module->getAttrOfType<mlir::StringAttr>("weft.normalize").getValue();
    softmax = normalize == "softmax";
    stick = normalize == "stick_breaking";
    weighted = isWeighted(module);
  }

  void forward() {
    begin("forward", "query");
    Value b = arg(0), h = arg(1), qt = arg(2);
    std::map<std::string, Value> queries;
    eachSet([&] { loadQueries(dotsOf(program("forward")), b, h, qt, queries); });
    const int64_t width = columns("v");
    Value acc = fill(0, {shape.tileQ, width});
    std::vector<Value> start{fill(-infinity, {shape.tileQ}), fill(0, {shape.tileQ})};
    if (weighted) start.push_back(fill(raised(), {shape.tileQ}));
    else if (sink("sink"))
      start = rowwise(b, h, qt, {}, 2, [&](mlir::ValueRange args) {
        return std::vector<Value>{clone(sink("sink"), b, h, args[0], args[0], {})["sink"], s.constant(1)};
      });
    std::vector<Value> inits{acc};
    if (softmax) inits.insert(inits.end(), start.begin(), start.end());
    if (stick) inits = {acc, start[1]};
    std::vector<Value> done = inits;
    eachSet([&] { done = forwardKeys(queries, b, h, qt, done); });
    if (!softmax) {
      store(done[0], "o", b, h, qt);
      storeRows(fill(0, {shape.tileQ}), "lse", b, h, qt);
      return;
    }
    if (weighted && sink("sink")) addWeightedSink(done, b, h, qt);
    // The backward pass takes probabilities from the peak and the scale apart: the log-sum-exp is rounded at its own
    // size.
    auto last = rowwise(b, h, qt, llvm::ArrayRef(done).drop_front(), 3, [&](mlir::ValueRange args) {
      Value some = s.map(Function::Not, {s.map(Function::Le, {args[2], s.constant(0)})});
      Value inverse = s.select(some, s.div(s.constant(1), args[2]), s.constant(0));
      Value logarithm = weighted ? logarithmOf(args[2], args[3]) : s.map(Function::Log, {args[2]});
      Value lse = s.select(some, s.add(args[1], logarithm), s.constant(-infinity));
      // Of a row that keeps no key each probability is an exact zero.
      return std::vector<Value>{inverse, lse, s.select(some, args[1], s.constant(infinity))};
    });
    Value out = tile::ScaleRowsOp::create(builder, s.loc, done[0].getType(), done[0], last[0]);
    store(out, "o", b, h, qt);
    storeRows(last[1], "lse", b, h, qt);
    storeRows(last[2], "row.peak", b, h, qt);
    storeRows(last[0], "row.scale", b, h, qt);
    if (weighted) storeRows(done[3], "row.shift", b, h, qt);
  }

  /// All gradients in one pass: queries outside, kept keys inside, dk and dv added up in memory.
  void backward() {
    begin("backward", "group");
    Value b = arg(0), g = arg(1);
    loop("heads", b, g, g, {}, [&](Value h, Value, mlir::ValueRange) {
      loop("queries", b, h, h, {}, [&](Value qt, Value, mlir::ValueRange) {
        queryPass(b, h, qt, true, {"head", "query", "key", "any"});
        return std::vector<Value>{};
      });
      return std::vector<Value>{};
    });
  }

  /// delta_i = do_i . o_i minus the cotangent of l_i.
  void backwardDelta() {
    begin("backward_delta", "query");
    Value b = arg(0), h = arg(1), qt = arg(2);
    Value product = tile::RowDotOp::create(builder, s.loc, tileType({shape.tileQ}), load("do", b, h, qt, "query"),
                                           load("o", b, h, qt, "query"));
    Value delta = rowwise(b, h, qt, {product, loadRows("dlse", b, h, qt, 0)}, 1,
                          [&](mlir::ValueRange args) { return std::vector<Value>{s.sub(args[1], args[2])}; })[0];
    storeRows(delta, "delta", b, h, qt);
  }

  void backwardQueries() {
    begin("backward_dq", "query");
    queryPass(arg(0), arg(1), arg(2), false, {"head", "query"});
  }

  /// `keyDim`: whose keys.
  void backwardKeys(llvm::StringRef keyDim) {
    for (const KeySetDescription &own : sets)
      if (own.dim == keyDim) set = &own;
    begin(ofKeys("backward_dkdv", set->dim), "key");
    auto source = program("backward");
    Value b = arg(0), g = arg(1), kt = arg(2);
    std::vector<std::pair<std::string, Value>> inits = {
        {set->values, fill(0, {shape.tileK, columns(set->values)}, "key")}};
    for (const std::string &name : keyInputs(source))
      if (name != set->values) inits.push_back({name, fill(0, {shape.tileK, columns(name)}, "key")});
    std::vector<Value> values;
    for (auto &[name, value] : inits) values.push_back(value);
    // The gradients are carried over the heads of the group and the query tiles that keep this one.
    auto sums = loop("heads", b, g, g, values, [&](Value h, Value, mlir::ValueRange heads) {
      return loop("kept_queries", b, h, kt, heads, [&](Value qt, Value full, mlir::ValueRange carried) {
        QuerySide query = querySide(b, h, qt);
        auto tiles = dotTiles(source, query.tiles, b, h, kt);
        Gradients gradients = gradientTiles(source, query, tiles, b, h, qt, kt, full, {"key"});
        std::vector<Value> next(carried.begin(), carried.end());
        next[0] = dot("tn", gradients.factor, query.tiles["do"], next[0]);
        for (auto &[pair, ds] : gradients.dots)
          for (size_t at = 1; at < inits.size(); ++at)
            if (inits[at].first == pair.second) next[at] = dot("tn", ds, query.tiles[pair.first], next[at]);
        return next;
      });
    });
    for (auto [init, value] : llvm::zip(inits, sums)) store(value, "d" + init.first, b, g, kt);
  }

 private:
  struct PairArgs {
    Value i, j;
    mlir::ValueRange tiles, rows;
  };
  /// What the gradient of stick breaking takes besides: softplus(s) summed over all kept keys after each pair; p dp
  /// summed over the tile's keys before it, and over the tiles before.
  struct Sticks {
    Value after, before, tilesBefore;
  };
  struct QuerySide {
    std::map<std::string, Value> tiles;
    Value peak, scale, delta, shift;

    /// By the names that programs have for them; `values` stand for all().
    static std::map<std::string, Value> named(mlir::ValueRange values) {
      std::map<std::string, Value> rows;
      for (auto [name, value] : llvm::zip(std::array{"peak", "scale", "delta", "shift"}, values)) rows[name] = value;
      return rows;
    }
    std::vector<Value> all() const {
      std::vector<Value> rows{peak, scale, delta};
      if (shift) rows.push_back(shift);
      return rows;
    }
  };
  /// Stick breaking at one tile, before the keys of other tiles count: softplus(s) of kept pairs summed over the tile's
  /// keys after each one, its sum over all, and the pieces as if they came first (in the backward pass p dp).
  struct Stick {
    Value after, total, pieces;
  };
  struct Gradients {
    Value factor;
    std::vector<std::pair<DotPair, Value>> dots;
  };
  using Named = llvm::StringMap<Value>;

  mlir::ModuleOp module;
  KernelShape shape;
  mlir::OpBuilder builder;
  ScalarBuilder s;
  std::vector<InputDescription> inputs;
  std::vector<KeySetDescription> sets;
  const KeySetDescription *set;  ///< whose keys the code at hand goes through
  std::map<std::string, std::string> dependences;
  mlir::Block *entry = nullptr;
  bool softmax, stick, weighted;  ///< weighted: a softmax with weights, whose rows have a shift

  /// A program of the set at hand.
  dialect::PairwiseOp program(const char *name) {
    return module.lookupSymbol<dialect::PairwiseOp>(ofKeys(name, set->dim));
  }
  /// The sink has no keys.
  dialect::PairwiseOp sink(const char *name) { return module.lookupSymbol<dialect::PairwiseOp>(name); }

  /// One set of keys after another shares the normaliser.
  template <class Body>
  void eachSet(Body body) {
    for (const KeySetDescription &own : sets) {
      set = &own;
      body();
    }
    set = &sets[0];
  }
  Value arg(unsigned at) { return entry->getArgument(at); }

  void begin(const std::string &name, const char *grid) {
    builder.setInsertionPointToEnd(module.getBody());
    auto kernel = tile::KernelOp::create(builder, s.loc, (module.getName().value_or("variant") + "." + name).str(),
                                         grid, shape.tileQ, shape.tileK, set->dim);
    entry = builder.createBlock(&kernel.getBody());
    const int count = llvm::StringRef(grid) == "query" || llvm::StringRef(grid) == "key" ? 3 : 2;
    for (int at = 0; at < count; ++at) entry->addArgument(builder.getI32Type(), s.loc);
  }

  mlir::Type tileType(llvm::ArrayRef<int64_t> sizes) {
    return mlir::RankedTensorType::get(sizes, builder.getF32Type());
  }
  int64_t columns(llvm::StringRef name) {
    if (name == "do" || name == "o") name = "v";
    for (const InputDescription &input : inputs)
      if (name == input.name) return shape.dims.at(input.dims.back());
    throw InternalError("build_kernels", "unknown tensor " + name.str());
  }
  Value fill(double value, llvm::ArrayRef<int64_t> sizes, const char *side = "query") {
    return tile::FillOp::create(builder, s.loc, tileType(sizes), s.constant(value), side);
  }
  Value load(const std::string &name, Value b, Value h, Value index, const char *side) {
    const int64_t rows = llvm::StringRef(side) == "query" ? shape.tileQ : shape.tileK;
    return tile::LoadOp::create(builder, s.loc, tileType({rows, columns(name)}), name, b, h, index, side,
                                mlir::StringAttr(), mlir::IntegerAttr());
  }
  Value loadRows(const char *name, Value b, Value h, Value index, float fillValue) {
    return tile::LoadRowsOp::create(builder, s.loc, tileType({shape.tileQ}), name, b, h, index,
                                    llvm::APFloat(fillValue));
  }
  void store(Value value, const std::string &name, Value b, Value h, Value index) {
    tile::StoreOp::create(builder, s.loc, value, name, b, h, index);
  }
  void storeRows(Value value, const char *name, Value b, Value h, Value index) {
    tile::StoreRowsOp::create(builder, s.loc, value, name, b, h, index);
  }
  Value dot(const char *form, Value lhs, Value rhs, Value acc, bool blocked = false) {
    auto l = mlir::cast<mlir::RankedTensorType>(lhs.getType()).getShape();
    auto r = mlir::cast<mlir::RankedTensorType>(rhs.getType()).getShape();
    const int64_t m = form[0] == 't' ? l[1] : l[0], n = form[1] == 't' ? r[0] : r[1];
    return tile::DotOp::create(builder, s.loc, tileType({m, n}), form, blocked, lhs, rhs, acc);
  }

  template <class Body>
  std::vector<Value> loop(const char *over, Value b, Value h, Value start, mlir::ValueRange inits, Body body) {
    auto op = tile::ForOp::create(builder, s.loc, inits.getTypes(), over, b, h, start, inits, set->dim);
    mlir::OpBuilder::InsertionGuard guard(builder);
    mlir::Block *block = builder.createBlock(&op.getBody());
    Value index = block->addArgument(builder.getI32Type(), s.loc), full;
    if (op.overKept()) full = block->addArgument(builder.getI1Type(), s.loc);
    std::vector<Value> carried;
    for (Value init : inits) carried.push_back(block->addArgument(init.getType(), s.loc));
    tile::YieldOp::create(builder, s.loc, body(index, full, mlir::ValueRange(carried)));
    return {op.getResults().begin(), op.getResults().end()};
  }

  /// `body` gives the tiles' elements, then the values to reduce.
  template <class Body>
  std::vector<Value> pairwise(Value b, Value h, Value qt, Value kt, Value full, mlir::ValueRange tiles,
                              mlir::ValueRange rows, llvm::ArrayRef<llvm::StringRef> reductions, Body body) {
    mlir::Region region;
    mlir::Block *block = new mlir::Block;
    region.push_back(block);
    std::vector<Value> values;
    {
      mlir::OpBuilder::InsertionGuard guard(builder);
      builder.setInsertionPointToEnd(block);
      PairArgs args{
          block->addArgument(builder.getI32Type(), s.loc), block->addArgument(builder.getI32Type(), s.loc), {}, {}};
      std::vector<Value> elements, rowValues;
      for (size_t at = 0; at < tiles.size(); ++at) elements.push_back(block->addArgument(builder.getF32Type(), s.loc));
      for (size_t at = 0; at < rows.size(); ++at) rowValues.push_back(block->addArgument(builder.getF32Type(), s.loc));
      args.tiles = elements;
      args.rows = rowValues;
      values = body(args);
      tile::ResultOp::create(builder, s.loc, values);
    }
    std::vector<mlir::Type> types(values.size() - reductions.size(), tileType({shape.tileQ, shape.tileK}));
    types.resize(values.size(), tileType({shape.tileQ}));
    auto op = tile::PairwiseOp::create(builder, s.loc, types, b, h, qt, kt, full, tiles, rows,
                                       builder.getStrArrayAttr(reductions), builder.getStringAttr(set->dim));
    op.getBody().takeBody(region);
    return {op.getResults().begin(), op.getResults().end()};
  }

  template <class Body>
  std::vector<Value> rowwise(Value b, Value h, Value qt, mlir::ValueRange rows, size_t count, Body body) {
    auto op = tile::RowwiseOp::create(builder, s.loc, std::vector<mlir::Type>(count, tileType({shape.tileQ})), b, h, qt,
                                      rows);
    mlir::OpBuilder::InsertionGuard guard(builder);
    mlir::Block *block = builder.createBlock(&op.getBody());
    std::vector<Value> args{block->addArgument(builder.getI32Type(), s.loc)};
    for (size_t at = 0; at < rows.size(); ++at) args.push_back(block->addArgument(builder.getF32Type(), s.loc));
    tile::ResultOp::create(builder, s.loc, body(mlir::ValueRange(args)));
    return {op.getResults().begin(), op.getResults().end()};
  }

  std::vector<DotPair> dotsOf(dialect::PairwiseOp source) {
    std::vector<DotPair> pairs;
    source.walk([&](dialect::DotOp op) {
      DotPair pair{op.getQuery().str(), op.getKey().str()};
      if (!llvm::is_contained(pairs, pair)) pairs.push_back(pair);
    });
    return pairs;
  }
  std::vector<std::string> keyInputs(dialect::PairwiseOp source) {
    std::vector<std::string> names;
    source.walk([&](dialect::CotangentOp op) {
      if (!llvm::is_contained(names, op.getKey())) names.push_back(op.getKey().str());
    });
    return names;
  }
  void loadQueries(llvm::ArrayRef<DotPair> pairs, Value b, Value h, Value qt, std::map<std::string, Value> &tiles) {
    for (const DotPair &pair : pairs)
      if (!tiles.count(pair.first)) tiles[pair.first] = load(pair.first, b, h, qt, "query");
  }
  std::map<std::string, Value> keyTiles;  // of the innermost kept pair, by input

  std::vector<Value> dotTiles(dialect::PairwiseOp source, std::map<std::string, Value> &queries, Value b, Value h,
                              Value kt) {
    keyTiles.clear();
    std::vector<Value> tiles;
    for (const DotPair &pair : dotsOf(source)) {
      if (!keyTiles.count(pair.second)) keyTiles[pair.second] = load(pair.second, b, h, kt, "key");
      // do . v is what delta, a number of its size, is taken from.
      tiles.push_back(dot("nt", queries[pair.first], keyTiles[pair.second], Value(), pair.first == "do"));
    }
    return tiles;
  }

  using Bindings = std::map<DotPair, Value>;
  Bindings bindTiles(dialect::PairwiseOp source, mlir::ValueRange elements) {
    Bindings bindings;
    for (auto [pair, element] : llvm::zip(dotsOf(source), elements)) bindings[pair] = element;
    return bindings;
  }

  /// Copies a pairwise program here, with its dots and rows bound; gives its named results.
  Named clone(dialect::PairwiseOp source, Value b, Value h, Value i, Value j, const Bindings &bindings,
              const std::map<std::string, Value> &rows = {}, llvm::ArrayRef<llvm::StringRef> accumulate = {},
              Bindings *cotangents = nullptr) {
    Named named;
    mlir::IRMapping mapping;
    mlir::Block &block = source.getBody().front();
    for (auto [argument, value] : llvm::zip(block.getArguments(), std::array{b, h, i, j})) mapping.map(argument, value);
    for (mlir::Operation &op : block) {
      if (auto dotOp = mlir::dyn_cast<dialect::DotOp>(op)) {
        mapping.map(dotOp.getResult(), bindings.at({dotOp.getQuery().str(), dotOp.getKey().str()}));
      } else if (auto row = mlir::dyn_cast<dialect::RowOp>(op)) {
        mapping.map(row.getResult(), rows.at(row.getName().str()));
      } else if (auto cotangent = mlir::dyn_cast<dialect::CotangentOp>(op)) {
        Value value = mapping.lookup(cotangent.getValue());
        Value &sum = (*cotangents)[{cotangent.getQuery().str(), cotangent.getKey().str()}];
        sum = sum ? s.add(sum, value) : value;
      } else if (auto sum = mlir::dyn_cast<dialect::AccumulateOp>(op)) {
        const std::string per = dependences.at(sum.getInput().str());
        if (!llvm::is_contained(accumulate, per)) continue;
        auto copy = mlir::cast<dialect::AccumulateOp>(builder.clone(op, mapping));
        copy.setPer(per);
      } else if (auto yield = mlir::dyn_cast<dialect::YieldOp>(op)) {
        for (auto [attr, value] : llvm::zip(yield.getNames(), yield.getValues()))
          named[mlir::cast<mlir::StringAttr>(attr).getValue()] = mapping.lookup(value);
      } else {
        builder.clone(op, mapping);
      }
    }
    return named;
  }

  bool hasFactor(dialect::PairwiseOp source) { return hasResult(source, "gate") || hasResult(source, "dropout"); }
  /// The pairs with a part in the result: the mask's whose weight is not 0.
  Value counting(Named &named) {
    Value counts = named.lookup("counts");
    return counts ? counts : named["mask"];
  }
  /// gate times dropout, or null where the variant has neither.
  Value outputFactor(Named &named) {
    Value gate = named.lookup("gate"), dropout = named.lookup("dropout");
    return gate && dropout ? s.mul(gate, dropout) : gate ? gate : dropout;
  }

  Value plainProbability(dialect::PairwiseOp source, std::vector<Value> &tiles, Value b, Value h, Value qt, Value kt,
                         Value full) {
    const bool sigmoid = module->getAttrOfType<mlir::StringAttr>("weft.normalize").getValue() == "sigmoid";
    return pairwise(b, h, qt, kt, full, tiles, {}, {}, [&](auto args) {
      auto named = clone(source, b, h, args.i, args.j, bindTiles(source, args.tiles));
      Value p = named["score"];
      if (sigmoid) p = s.map(Function::Sigmoid, {p});
      if (Value weight = named.lookup("weight")) p = s.mul(p, weight);
      if (Value factor = outputFactor(named)) p = s.mul(p, factor);
      return std::vector<Value>{s.select(counting(named), p, s.constant(0))};
    })[0];
  }

  Value addedRows(Value b, Value h, Value qt, Value x, Value y) {
    return rowwise(b, h, qt, {x, y}, 1,
                   [&](mlir::ValueRange args) { return std::vector<Value>{s.add(args[1], args[2])}; })[0];
  }

  /// `tiles` are the dots of `dots`; where do . v is one of them, pieces carry dp.
  Stick breakStick(dialect::PairwiseOp dots, dialect::PairwiseOp source, mlir::ValueRange tiles, Value b, Value h,
                   Value qt, Value kt, Value full) {
    auto parts = pairwise(b, h, qt, kt, full, tiles, {}, {}, [&](auto args) {
      const Bindings bindings = bindTiles(dots, args.tiles);
      auto named = clone(source, b, h, args.i, args.j, bindings);
      Value counts = counting(named), piece = s.map(Function::Sigmoid, {named["score"]});
      if (Value weight = named.lookup("weight")) piece = s.mul(piece, weight);
      if (Value factor = outputFactor(named)) piece = s.mul(piece, factor);
      if (auto found = bindings.find({"do", set->values}); found != bindings.end()) piece = s.mul(piece, found->second);
      Value zero = s.constant(0);
      return std::vector<Value>{s.select(counts, s.map(Function::Softplus, {named["score"]}), zero),
                                s.select(counts, piece, zero)};
    });
    auto [after, total] = scanSum("after", parts[0], kt);
    return {after, total, parts[1]};
  }

  /// The pieces, once the keys of the tiles after this one (`sum` of their softplus(s)) have taken theirs, and the sum
  /// over all keys after each pair.
  std::vector<Value> shortened(const Stick &stick, Value sum, Value b, Value h, Value qt, Value kt, Value full) {
    return pairwise(b, h, qt, kt, full, {stick.pieces, stick.after}, {sum}, {}, [&](auto args) {
      Value after = s.add(args.tiles[1], args.rows[0]);
      return std::vector<Value>{s.mul(args.tiles[0], s.map(Function::Exp, {s.neg(after)})), after};
    });
  }

  std::pair<Value, Value> scanSum(const char *side, Value tile, Value kt) {
    auto op = tile::ScanSumOp::create(builder, s.loc, tile.getType(), tileType({shape.tileQ}), side, tile, kt);
    return {op.getSums(), op.getTotals()};
  }

  /// A sum of rows in two floats, the second what the first has lost: differences of such sums stay exact.
  std::array<Value, 2> addTwice(Value b, Value h, Value qt, Value high, Value low, Value added) {
    auto sum = rowwise(b, h, qt, {high, low, added}, 2, [&](mlir::ValueRange args) {
      // Knuth's two-sum.
      Value x = args[1], y = args[3], total = s.add(x, y), part = s.sub(total, x);
      Value lost = s.add(s.sub(x, s.sub(total, part)), s.sub(y, part));
      return std::vector<Value>{total, s.add(args[2], lost)};
    });
    return {sum[0], sum[1]};
  }

  /// Of each row, softplus(s) summed over all kept keys. Backward passes go from the oldest key to the newest, where
  /// the sum over the keys after a tile is what this leaves: pieces of old keys are small, and summed up first.
  std::array<Value, 2> wholeStick(QuerySide &query, Value b, Value h, Value qt) {
    auto source = program("forward");
    auto sums = loop("keys", b, h, qt, {fill(0, {shape.tileQ}), fill(0, {shape.tileQ})},
                     [&](Value kt, Value full, mlir::ValueRange carried) {
                       Stick stick =
                           breakStick(source, source, dotTiles(source, query.tiles, b, h, kt), b, h, qt, kt, full);
                       const auto sum = addTwice(b, h, qt, carried[0], carried[1], stick.total);
                       return std::vector<Value>{sum[0], sum[1]};
                     });
    return {sums[0], sums[1]};
  }

  /// Goes through the kept keys of one set: the output's sum, its scale and its mass (see forward).
  std::vector<Value> forwardKeys(std::map<std::string, Value> &queries, Value b, Value h, Value qt,
                                 mlir::ValueRange inits) {
    auto source = program("forward");
    return loop(
        stick ? "keys_descending" : "keys", b, h, qt, inits, [&](Value kt, Value full, mlir::ValueRange carried) {
          std::vector<Value> tiles = dotTiles(source, queries, b, h, kt);
          Value values = load(set->values, b, h, kt, "key");
          if (stick) {
            Stick stick = breakStick(source, source, tiles, b, h, qt, kt, full);
            Value pieces = shortened(stick, carried[1], b, h, qt, kt, full)[0];
            return std::vector<Value>{dot("nn", pieces, values, carried[0]),
                                      addedRows(b, h, qt, carried[1], stick.total)};
          }
          if (!softmax) {
            Value p = plainProbability(source, tiles, b, h, qt, kt, full);
            return std::vector<Value>{dot("nn", p, values, carried[0])};
          }
          // First pass: logits, with -inf where the pair does not count, and their row maxima.
          const bool ownWeight = hasResult(source, "weight"), gated = hasFactor(source);
          llvm::SmallVector<llvm::StringRef, 2> maxima(ownWeight ? 2 : 1, "max");
          auto logits = pairwise(b, h, qt, kt, full, tiles, {}, maxima, [&](auto args) {
            auto results = clone(source, b, h, args.i, args.j, bindTiles(source, args.tiles));
            Value counts = counting(results);
            std::vector<Value> out;
            out.push_back(s.select(counts, results["score"], s.constant(-infinity)));
            for (Value factor : {results.lookup("weight"), outputFactor(results)})
              if (factor) out.push_back(s.select(counts, factor, s.constant(0)));
            out.push_back(out[0]);
            if (ownWeight) out.push_back(out[1]);
            return out;
          });
          const size_t passedOn = logits.size() - maxima.size();
          std::vector<Value> stepRows{carried[1], logits[passedOn]};
          if (weighted)
            stepRows.insert(stepRows.end(), {carried[3], ownWeight ? logits[passedOn + 1] : fill(1, {shape.tileQ})});
          auto step = rowwise(b, h, qt, stepRows, weighted ? 4 : 3, [&](mlir::ValueRange args) {
            auto [top, finite] = higherPeak(args[1], args[2]);
            std::vector<Value> out{top, finite, s.expOfDifference(args[1], finite)};
            if (weighted) {
              auto [shift, change] = lowerShift(args[3], shiftOf(args[4]));
              out[2] = s.mul(out[2], change);
              out.push_back(shift);
            }
            return out;
          });
          // Second pass: probabilities against the running maximum, and their row sums.
          std::vector<Value> second(logits.begin(), logits.begin() + passedOn), secondRows{step[1]};
          if (weighted) secondRows.push_back(step[3]);
          auto probabilities = pairwise(b, h, qt, kt, full, second, secondRows, {"add"}, [&](auto args) {
            Value p = s.expOfDifference(args.tiles[0], args.rows[0]);
            // First the weight and its shift: either can be too large or small for p.
            if (weighted) p = s.mul(ownWeight ? s.mul(args.tiles[1], args.rows[1]) : args.rows[1], p);
            Value output = gated ? s.mul(p, args.tiles.back()) : p;
            return std::vector<Value>{output, p};
          });
          Value scaled = tile::ScaleRowsOp::create(builder, s.loc, carried[0].getType(), carried[0], step[2]);
          Value sum = rowwise(b, h, qt, {carried[2], step[2], probabilities[1]}, 1, [&](mlir::ValueRange args) {
            return std::vector<Value>{s.add(s.mul(args[1], args[2]), args[3])};
          })[0];
          std::vector<Value> next{dot("nn", probabilities[0], values, scaled), step[0], sum};
          if (weighted) next.push_back(step[3]);
          return next;
        });
  }

  /// The kernels count numbers below 2^-126 as zero, and sums end at 2^128. So a row multiplies its weights by a power
  /// of two, its shift, where the greatest of them is very small or great: here the greatest shift. As operands of
  /// products in f16 they have to be near 1.
  double raised() { return shape.type == ElementType::F16 ? 0x1p112 : 0x1p64; }

  /// That of a row with weights up to `greatest`.
  Value shiftOf(Value greatest) {
    if (shape.type != ElementType::F16) {
      Value lowered = s.select(s.map(Function::Gt, {greatest, s.constant(0x1p96)}), s.constant(0x1p-32), s.constant(1));
      return s.select(s.map(Function::Lt, {greatest, s.constant(0x1p-40)}), s.constant(raised()), lowered);
    }
    Value exponent =
        s.map(Function::ToFloat,
              {s.map(Function::Round, {s.mul(s.map(Function::Log, {greatest}), s.constant(std::numbers::log2e))})});
    Value beyond = s.sub(exponent, s.map(Function::Clamp, {exponent, s.constant(-2), s.constant(6)}));
    return s.exp2(s.map(Function::Clamp, {s.neg(beyond), s.constant(-124), s.constant(std::log2(raised()))}));
  }

  /// A row's shift under one more bound, and what that multiplies its sums by.
  std::pair<Value, Value> lowerShift(Value before, Value bound) {
    Value shift = s.map(Function::Min, {before, bound});
    return {shift, s.div(shift, before)};
  }

  /// A row's peak with one more score, and what is taken from scores: 0 where there is none yet.
  std::pair<Value, Value> higherPeak(Value before, Value score) {
    Value top = s.map(Function::Max, {before, score});
    Value none = s.map(Function::Eq, {top, s.constant(-infinity)});
    return {top, s.select(none, s.constant(0), top)};
  }

  /// Last, when the shift of the pairs' weights is known: `sums` are the output's, the peak, the mass and the shift.
  void addWeightedSink(std::vector<Value> &sums, Value b, Value h, Value qt) {
    auto with = rowwise(b, h, qt, llvm::ArrayRef(sums).drop_front(), 4, [&](mlir::ValueRange args) {
      auto [score, weight] = s.weightedSink(clone(sink("sink"), b, h, args[0], args[0], {})["sink"]);
      auto [top, finite] = higherPeak(args[1], score);
      // The sink's weight may be as great as the shift of tiny ones.
      auto [shift, change] =
          lowerShift(args[3], s.div(s.constant(raised()), s.map(Function::Max, {weight, s.constant(1)})));
      Value kept = s.mul(s.expOfDifference(args[1], finite), change);
      Value own = s.mul(s.mul(weight, shift), s.expOfDifference(score, finite));
      return std::vector<Value>{top, s.add(s.mul(args[2], kept), own), shift, kept};
    });
    Value scaled = tile::ScaleRowsOp::create(builder, s.loc, sums[0].getType(), sums[0], with[3]);
    sums = {scaled, with[0], with[1], with[2]};
  }

  /// Of a sum of shifted weights: that of the weights, also where their own sum is no f32.
  Value logarithmOf(Value mass, Value shift) {
    Value sum = s.div(mass, shift);
    Value fits = s.map(Function::And, {s.map(Function::Gt, {sum, s.constant(0x1p-100)}),
                                       s.map(Function::Lt, {sum, s.constant(0x1p127)})});
    Value logarithm = s.map(Function::Log, {s.select(fits, sum, mass)});
    return s.select(fits, logarithm, s.sub(logarithm, s.map(Function::Log, {shift})));
  }

  /// With the operands of the set at hand.
  QuerySide querySide(Value b, Value h, Value qt) {
    QuerySide side;
    loadQueries(dotsOf(program("backward")), b, h, qt, side.tiles);
    loadQueries(DotPair{"do", set->values}, b, h, qt, side.tiles);
    if (softmax) {
      side.peak = loadRows("row.peak", b, h, qt, std::numeric_limits<float>::infinity());
      side.scale = loadRows("row.scale", b, h, qt, 0);
      side.delta = loadRows("delta", b, h, qt, 0);
    }
    if (weighted) side.shift = loadRows("row.shift", b, h, qt, 1);
    return side;
  }

  Gradients gradientTiles(dialect::PairwiseOp source, QuerySide &query, const std::vector<Value> &tiles, Value b,
                          Value h, Value qt, Value kt, Value full, llvm::ArrayRef<llvm::StringRef> accumulate,
                          const Sticks *sticks = nullptr) {
    std::vector<Value> rows, all = tiles;
    if (softmax) rows = query.all();
    if (sticks) {
      rows = {sticks->tilesBefore};
      all.insert(all.end(), {sticks->after, sticks->before});
    }
    std::vector<DotPair> order;
    auto out = pairwise(b, h, qt, kt, full, all, rows, {}, [&](auto args) {
      Bindings cotangents;
      std::map<std::string, Value> rowValues;
      if (softmax) rowValues = QuerySide::named(args.rows);
      if (sticks)
        rowValues = {{"after", args.tiles[tiles.size()]},
                     {"before", s.add(args.rows[0], args.tiles[tiles.size() + 1])}};
      auto named =
          clone(source, b, h, args.i, args.j, bindTiles(source, args.tiles), rowValues, accumulate, &cotangents);
      std::vector<Value> values{named["value"]};
      for (auto &[pair, value] : cotangents) {
        order.push_back(pair);
        values.push_back(value);
      }
      return values;
    });
    Gradients gradients{out[0], {}};
    for (size_t at = 0; at < order.size(); ++at) gradients.dots.push_back({order[at], out[at + 1]});
    return gradients;
  }

  /// Everything a query tile contributes: its own gradients, and with `keys` those of the key side.
  void queryPass(Value b, Value h, Value qt, bool keys, llvm::ArrayRef<llvm::StringRef> accumulate) {
    QuerySide query = querySide(b, h, qt);
    std::vector<std::string> names;
    std::vector<Value> sums;
    eachSet([&] {
      loadQueries(dotsOf(program("backward")), b, h, qt, query.tiles);
      program("backward").walk([&](dialect::CotangentOp op) {
        if (llvm::is_contained(names, op.getQuery())) return;
        names.push_back(op.getQuery().str());
        sums.push_back(fill(0, {shape.tileQ, columns(names.back())}));
      });
    });
    eachSet([&] { sums = queryPassKeys(query, names, sums, b, h, qt, keys, accumulate); });
    for (auto [name, value] : llvm::zip(names, sums)) store(value, "d" + name, b, h, qt);
    if (sink("sink_backward"))
      rowwise(b, h, qt, query.all(), 0, [&](mlir::ValueRange args) {
        clone(sink("sink_backward"), b, h, args[0], args[0], {}, QuerySide::named(args.drop_front()), {"head"});
        return std::vector<Value>{};
      });
  }

  /// What the keys of one set add to the gradients of the query side, `names`.
  std::vector<Value> queryPassKeys(QuerySide &query, const std::vector<std::string> &names, std::vector<Value> inits,
                                   Value b, Value h, Value qt, bool keys, llvm::ArrayRef<llvm::StringRef> accumulate) {
    auto source = program("backward");
    std::array<Value, 2> whole;
    if (stick) {
      whole = wholeStick(query, b, h, qt);
      for (int sum = 0; sum < 3; ++sum) inits.push_back(fill(0, {shape.tileQ}));
    }
    return loop("keys", b, h, qt, inits, [&](Value kt, Value full, mlir::ValueRange carried) {
      auto tiles = dotTiles(source, query.tiles, b, h, kt);
      std::vector<Value> next(carried.begin(), carried.end());
      Sticks sticks;
      if (stick) {
        Value &high = next[names.size()], &low = next[names.size() + 1], &seen = next[names.size() + 2];
        Stick own = breakStick(source, program("forward"), tiles, b, h, qt, kt, full);
        const auto sum = addTwice(b, h, qt, high, low, own.total);
        high = sum[0];
        low = sum[1];
        Value left = rowwise(b, h, qt, {whole[0], whole[1], high, low}, 1, [&](mlir::ValueRange args) {
          return std::vector<Value>{s.add(s.sub(args[1], args[3]), s.sub(args[2], args[4]))};
        })[0];
        auto pieces = shortened(own, left, b, h, qt, kt, full);
        auto [before, total] = scanSum("before", pieces[0], kt);
        sticks = {pieces[1], before, seen};
        seen = addedRows(b, h, qt, seen, total);
      }
      Gradients gradients =
          gradientTiles(source, query, tiles, b, h, qt, kt, full, accumulate, stick ? &sticks : nullptr);
      if (keys) {
        into(gradients.factor, query.tiles["do"], set->values, b, h, kt);
        for (auto &[pair, ds] : gradients.dots) into(ds, query.tiles[pair.first], pair.second, b, h, kt);
      }
      for (auto &[pair, ds] : gradients.dots)
        for (size_t at = 0; at < names.size(); ++at)
          if (names[at] == pair.first) next[at] = dot("nn", ds, keyTiles[pair.second], next[at]);
      return next;
    });
  }

  void into(Value lhs, Value rhs, const std::string &name, Value b, Value h, Value kt) {
    tile::DotIntoOp::create(builder, s.loc, "tn", lhs, rhs, "d" + name, b, h, kt);
  }
};

}  // namespace

std::map<std::string, std::string> gradientDependence(mlir::ModuleOp module) {
  // One buffer an input: reads that differ in kind meet in the most general one.
  const auto inputs = describedInputs(module);
  std::map<std::string, std::string> result;
  module.walk([&](dialect::AccumulateOp op) {
    const std::string program = op->getParentOfType<dialect::PairwiseOp>().getSymName().str();
    const size_t dot = program.find('.');
    const std::string per = dependence(inputs, op, dot == std::string::npos ? "S" : program.substr(dot + 1));
    auto [entry, fresh] = result.try_emplace(op.getInput().str(), per);
    if (!fresh && entry->second != per) entry->second = "any";
  });
  return result;
}

void buildKernel(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape) {
  KernelBuilder builder(module, shape);
  if (kernel == "forward") builder.forward();
  else if (kernel == "backward") builder.backward();
  else if (kernel == "backward_delta") builder.backwardDelta();
  else if (kernel == "backward_dq") builder.backwardQueries();
  else if (llvm::StringRef(kernel).split('.').first == "backward_dkdv")
    builder.backwardKeys(kernel.find('.') == std::string::npos ? "S" : kernel.substr(kernel.find('.') + 1));
  else throw InternalError("build_kernels", "no kernel named " + kernel);
}

}  // namespace weft
