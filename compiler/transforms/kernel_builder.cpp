#include "compiler/transforms/kernel_builder.h"

#include <cmath>

#include "compiler/internal_error.h"
#include "llvm/ADT/STLExtras.h"
#include "mlir/IR/IRMapping.h"

namespace weft {

using Value = mlir::Value;
using Values = KernelBuilder::Values;

KernelBuilder::KernelBuilder(mlir::ModuleOp module, const KernelShape &shape)
    : module(module),
      shape(shape),
      builder(module.getContext()),
      s(builder, builder.getUnknownLoc()),
      sets(describedSets(module)),
      set(&sets[0]),
      inputs(describedInputs(module)),
      dependences(gradientDependence(module)) {}

void KernelBuilder::eachSet(llvm::function_ref<void()> body) {
  for (const KeySetDescription &own : sets) {
    set = &own;
    body();
  }
  set = &sets[0];
}

void KernelBuilder::begin(const std::string &name, tile::Grid grid) {
  builder.setInsertionPointToEnd(module.getBody());
  auto kernel = tile::KernelOp::create(builder, s.loc, (module.getName().value_or("variant") + "." + name).str(), grid,
                                       shape.tileQ, shape.tileK, set->dim, tile::Order::Tiles, describedRows(module),
                                       tile::ListedKeysAttr());
  entry = builder.createBlock(&kernel.getBody());
  const int count = grid == tile::Grid::Query || grid == tile::Grid::Key ? 3 : 2;
  for (int at = 0; at < count; ++at) entry->addArgument(builder.getI32Type(), s.loc);
}

// ---- tiles and rows ------------------------------------------------------------------------

double KernelBuilder::rounded(double value) const {
  return dialect::realType(builder.getContext()).isF64() ? value : static_cast<float>(value);
}

std::optional<double> KernelBuilder::knownValue(Value factor) const {
  if (auto known = dialect::constantOf(factor)) return known;
  auto map = factor.getDefiningOp<dialect::MapOp>();
  if (!map) return std::nullopt;
  std::vector<double> x;
  for (Value arg : map.getArgs()) {
    std::optional<double> known;
    if (auto dim = arg.getDefiningOp<dialect::DimOp>()) {
      if (auto size = shape.dims.find(dim.getDim().str()); size != shape.dims.end()) known = size->second;
    } else {
      known = knownValue(arg);
    }
    if (!known) return std::nullopt;
    x.push_back(rounded(*known));
  }
  switch (map.function()) {
    case Function::ToFloat: return x[0];
    case Function::Sqrt: return rounded(std::sqrt(x[0]));
    case Function::Rsqrt: return rounded(1 / rounded(std::sqrt(x[0])));
    case Function::Mul: return rounded(x[0] * x[1]);
    case Function::Div: return rounded(x[0] / x[1]);
    default: return std::nullopt;
  }
}

int64_t KernelBuilder::columns(llvm::StringRef name) {
  if (name == "do" || name == "o") name = "v";
  for (const InputDescription &input : inputs)
    if (name == input.name) return shape.dims.at(input.dims.back());
  throw InternalError("build_kernels", "unknown tensor " + name.str());
}

Value KernelBuilder::fill(double value, llvm::ArrayRef<int64_t> sizes, tile::Side side) {
  return tile::FillOp::create(builder, s.loc, tileType(sizes), s.constant(value), side);
}

Value KernelBuilder::load(const std::string &name, Value b, Value h, Value index, tile::Side side) {
  const int64_t rows = side == tile::Side::Query ? shape.tileQ : shape.tileK;
  return tile::LoadOp::create(builder, s.loc, tileType({rows, columns(name)}), name, b, h, index, side);
}

Value KernelBuilder::loadRows(const std::string &name, const QueryTile &at, float fillValue) {
  return tile::LoadRowsOp::create(builder, s.loc, tileType({shape.tileQ}), name, at.b, at.h, at.index,
                                  llvm::APFloat(fillValue));
}

void KernelBuilder::store(Value value, const std::string &name, Value b, Value h, Value index) {
  tile::StoreOp::create(builder, s.loc, value, name, b, h, index);
}

void KernelBuilder::storeRows(Value value, const std::string &name, const QueryTile &at) {
  tile::StoreRowsOp::create(builder, s.loc, value, name, at.b, at.h, at.index);
}

Value KernelBuilder::dot(tile::DotForm form, Value lhs, Value rhs, Value acc, bool blocked) {
  auto l = mlir::cast<mlir::RankedTensorType>(lhs.getType()).getShape();
  auto r = mlir::cast<mlir::RankedTensorType>(rhs.getType()).getShape();
  const int64_t m = form == tile::DotForm::TN ? l[1] : l[0], n = form == tile::DotForm::NT ? r[0] : r[1];
  return tile::DotOp::create(builder, s.loc, tileType({m, n}), form, blocked, lhs, rhs, acc);
}

Value KernelBuilder::scale(Value tile, double factor) {
  return tile::ScaleOp::create(builder, s.loc, tile.getType(), tile, llvm::APFloat(rounded(factor)));
}

Value KernelBuilder::scaleRows(Value tile, Value factors) {
  return tile::ScaleRowsOp::create(builder, s.loc, tile.getType(), tile, factors);
}

Value KernelBuilder::addedRows(const QueryTile &at, Value x, Value y) {
  return rowwise(at, {x, y}, 1, [&](mlir::ValueRange args) { return Values{s.add(args[1], args[2])}; })[0];
}

// ---- loops and scalar programs -------------------------------------------------------------

Values KernelBuilder::loop(tile::Range over, Value b, Value h, Value start, mlir::ValueRange inits,
                           llvm::function_ref<Values(Value, Value, mlir::ValueRange)> body) {
  auto op =
      tile::ForOp::create(builder, s.loc, inits.getTypes(), over, b, h, start, inits, set->dim, mlir::ArrayAttr());
  mlir::OpBuilder::InsertionGuard guard(builder);
  mlir::Block *block = builder.createBlock(&op.getBody());
  Value index = block->addArgument(builder.getI32Type(), s.loc), full;
  if (op.overKept()) full = block->addArgument(builder.getI1Type(), s.loc);
  Values carried;
  for (Value init : inits) carried.push_back(block->addArgument(init.getType(), s.loc));
  tile::YieldOp::create(builder, s.loc, body(index, full, mlir::ValueRange(carried)));
  return {op.getResults().begin(), op.getResults().end()};
}

Values KernelBuilder::pairwise(const QueryTile &at, const KeyTile &keys, mlir::ValueRange tiles, mlir::ValueRange rows,
                               llvm::ArrayRef<tile::Reduction> reductions,
                               llvm::function_ref<Values(const PairArgs &)> body, bool parts) {
  mlir::Region region;
  mlir::Block *block = new mlir::Block;
  region.push_back(block);
  Values values;
  {
    mlir::OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToEnd(block);
    PairArgs args{
        block->addArgument(builder.getI32Type(), s.loc), block->addArgument(builder.getI32Type(), s.loc), {}, {}};
    Values elements, rowValues;
    for (size_t n = 0; n < tiles.size(); ++n)
      elements.push_back(block->addArgument(dialect::realType(builder.getContext()), s.loc));
    for (size_t n = 0; n < rows.size(); ++n)
      rowValues.push_back(block->addArgument(dialect::realType(builder.getContext()), s.loc));
    args.tiles = elements;
    args.rows = rowValues;
    values = body(args);
    tile::ResultOp::create(builder, s.loc, values);
  }
  std::vector<mlir::Type> types(values.size() - reductions.size(), tileType({shape.tileQ, shape.tileK}));
  types.resize(values.size(), tileType({shape.tileQ}));
  llvm::SmallVector<int32_t> reduced;
  for (tile::Reduction own : reductions) reduced.push_back(static_cast<int32_t>(own));
  auto op = tile::PairwiseOp::create(builder, s.loc, types, at.b, at.h, at.index, keys.index, keys.full, tiles, rows,
                                     builder.getDenseI32ArrayAttr(reduced), builder.getStringAttr(set->dim));
  op.setParts(parts);
  op.getBody().takeBody(region);
  return {op.getResults().begin(), op.getResults().end()};
}

Values KernelBuilder::rowwise(const QueryTile &at, mlir::ValueRange rows, size_t count,
                              llvm::function_ref<Values(mlir::ValueRange)> body) {
  auto op = tile::RowwiseOp::create(builder, s.loc, std::vector<mlir::Type>(count, tileType({shape.tileQ})), at.b, at.h,
                                    at.index, rows);
  mlir::OpBuilder::InsertionGuard guard(builder);
  mlir::Block *block = builder.createBlock(&op.getBody());
  Values args{block->addArgument(builder.getI32Type(), s.loc)};
  for (size_t n = 0; n < rows.size(); ++n)
    args.push_back(block->addArgument(dialect::realType(builder.getContext()), s.loc));
  tile::ResultOp::create(builder, s.loc, body(mlir::ValueRange(args)));
  return {op.getResults().begin(), op.getResults().end()};
}

// ---- pairwise programs ---------------------------------------------------------------------

std::vector<DotPair> KernelBuilder::dotsOf(dialect::PairwiseOp source) {
  std::vector<DotPair> pairs;
  source.walk([&](dialect::DotOp op) {
    DotPair pair{op.getQuery().str(), op.getKey().str()};
    if (!llvm::is_contained(pairs, pair)) pairs.push_back(pair);
  });
  return pairs;
}

void KernelBuilder::loadQueries(llvm::ArrayRef<DotPair> pairs, const QueryTile &at,
                                std::map<std::string, Value> &tiles) {
  for (const DotPair &pair : pairs)
    if (!tiles.count(pair.first)) tiles[pair.first] = load(pair.first, at.b, at.h, at.index, tile::Side::Query);
}

std::map<std::string, Value> KernelBuilder::forwardQueries(const QueryTile &at) {
  std::map<std::string, Value> queries;
  eachSet([&] { loadQueries(dotsOf(program("forward")), at, queries); });
  return queries;
}

Values KernelBuilder::dotTiles(dialect::PairwiseOp source, const std::map<std::string, Value> &queries,
                               const QueryTile &at, Value keys) {
  keyTiles.clear();
  Values tiles;
  for (const DotPair &pair : dotsOf(source)) {
    if (!keyTiles.count(pair.second)) keyTiles[pair.second] = load(pair.second, at.b, at.h, keys, tile::Side::Key);
    // do . v is what delta, a number of its size, is taken from.
    tiles.push_back(dot(tile::DotForm::NT, queries.at(pair.first), keyTiles[pair.second], Value(), pair.first == "do"));
  }
  return tiles;
}

KernelBuilder::Bindings KernelBuilder::bindTiles(dialect::PairwiseOp source, mlir::ValueRange elements) {
  Bindings bindings;
  for (auto [pair, element] : llvm::zip(dotsOf(source), elements)) bindings[pair] = element;
  return bindings;
}

KernelBuilder::Named KernelBuilder::clone(dialect::PairwiseOp source, const QueryTile &at, Value i, Value j,
                                          const Bindings &bindings, const std::map<std::string, Value> &rows,
                                          llvm::ArrayRef<dialect::Dependence> accumulate, Bindings *cotangents) {
  Named named;
  mlir::IRMapping mapping;
  mlir::Block &block = source.getBody().front();
  for (auto [argument, value] : llvm::zip(block.getArguments(), std::array{at.b, at.h, i, j}))
    mapping.map(argument, value);
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
      const dialect::Dependence per = dependences.at(sum.getInput().str());
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

Value KernelBuilder::counting(Named &named) {
  Value counts = named.lookup("counts");
  return counts ? counts : named["mask"];
}

Value KernelBuilder::outputFactor(Named &named) {
  Value gate = named.lookup("gate"), dropout = named.lookup("dropout");
  return gate && dropout ? s.mul(gate, dropout) : gate ? gate : dropout;
}

}  // namespace weft
