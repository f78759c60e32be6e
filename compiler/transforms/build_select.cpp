#include "compiler/transforms/build_select.h"

#include <limits>

#include "compiler/internal_error.h"
#include "compiler/transforms/operands_first.h"
#include "compiler/transforms/plan_kernel.h"
#include "compiler/transforms/signature.h"
#include "mlir/IR/IRMapping.h"

namespace weft {
namespace {

namespace arith = mlir::arith;

/// Of a tile that is not ranked: below every number.
constexpr int32_t unranked = std::numeric_limits<int32_t>::min();

std::vector<dialect::PairwiseOp> rounds(mlir::ModuleOp module) {
  std::vector<dialect::PairwiseOp> list;
  for (auto op : module.getOps<dialect::PairwiseOp>())
    if (op->hasAttr("weft.tiles")) list.push_back(op);
  return list;
}

SelectedTiles tilesOf(dialect::PairwiseOp round) {
  auto sizes = round->getAttrOfType<mlir::DenseI32ArrayAttr>("weft.tiles");
  return {sizes[0], sizes[1]};
}

class SelectionKernel : public PlanKernel {
 public:
  using PlanKernel::PlanKernel;

 protected:
  /// Where a tile's pooled row begins, of `plane` = b * heads + head: rows of queries lie one after another, those of
  /// keys column by column in blocks (see tile.flat_dots).
  Value pooledRow(bool keys, Value plane, Value tile, Value count, int64_t width) {
    if (!keys) return s.mul(s.add(s.mul(plane, count), tile), s.constantInt(width));
    Value block = quotient(tile, pooledBlock);
    Value start = s.mul(s.add(s.mul(plane, tiles(count, pooledBlock)), block), s.constantInt(pooledBlock * width));
    return s.add(start, s.sub(tile, s.mul(block, s.constantInt(pooledBlock))));
  }
};

class PoolBuilder : SelectionKernel {
 public:
  using SelectionKernel::SelectionKernel;

  void build(size_t number, const PooledDescription &pooled, const InputDescription &input, int64_t width) {
    const bool queries = input.dims[2] == "T", grouped = input.dims[1] == "G";
    mlir::Block *entry = begin("pool_" + std::to_string(number),
                               queries   ? tile::Grid::Query
                               : grouped ? tile::Grid::Key
                                         : tile::Grid::HeadKey,
                               3);
    Value b = entry->getArgument(0), head = entry->getArgument(1), tile = entry->getArgument(2);
    Value extent = dim(input.dims[2]);
    const bool before = pooled.pool == "mean_before";
    Interval rows = box(before ? s.sub(tile, s.constantInt(1)) : tile, pooled.tile, extent);
    Value first = before                  ? s.map(Function::Max, {rows.lo, s.constantInt(0)})
                  : pooled.pool == "last" ? rows.hi
                                          : rows.lo;
    Value end = s.add(pooled.pool == "first" ? rows.lo : rows.hi, s.constantInt(1));
    const tile::Pooling by = pooled.pool == "max"   ? tile::Pooling::Max
                             : pooled.pool == "min" ? tile::Pooling::Min
                                                    : tile::Pooling::Mean;
    Value base =
        pooledRow(!queries, s.add(s.mul(b, dim(input.dims[1])), head), tile, tiles(extent, pooled.tile), width);
    tile::PoolRowsOp::create(builder, s.loc, input.name, b, head, first, end, by, width,
                             "pool." + std::to_string(number), base, queries ? 1 : pooledBlock);
  }
};

class SelectBuilder : SelectionKernel {
 public:
  SelectBuilder(mlir::ModuleOp module, const KernelShape &shape, dialect::PairwiseOp round, size_t number)
      : SelectionKernel(module, tilesOf(round).tileQ, tilesOf(round).tileK),
        shape(shape),
        round(round),
        number(number),
        pools(describedPools(module)),
        inputs(describedInputs(module)) {}

  void build() {
    const auto all = rounds(module);
    const std::string chosen = selectionBuffer(number, all.size());
    mlir::Block *entry = begin("select_" + std::to_string(number), tile::Grid::Query, 3, queryTilesEach);
    b = entry->getArgument(0);
    h = entry->getArgument(1);
    Value T = dim("T"), S = dim("S");
    group = quotient(h, quotient(dim("H"), dim("G")));  // here, for no loop-invariant code leaves a condition
    head = s.add(s.mul(b, dim("H")), h);
    count = tiles(S, tileK);
    queryTiles = tiles(T, tileQ);
    firstTile = s.mul(entry->getArgument(2), s.constantInt(queryTilesEach));
    given = s.map(Function::Min, {s.sub(queryTiles, firstTile), s.constantInt(queryTilesEach)});
    const Interval allQueries = box(entry->getArgument(2), tileQ * queryTilesEach, T);

    // The estimates of what can be kept; what is always kept stands out of the ranking.
    auto yield = mlir::cast<dialect::YieldOp>(round.getBody().front().getTerminator());
    std::vector<std::pair<llvm::StringRef, Value>> asked;
    for (auto [attr, value] : llvm::zip(yield.getNames(), yield.getValues()))
      asked.push_back({mlir::cast<mlir::StringAttr>(attr).getValue(), value});
    round.getBody().walk([&](dialect::DotOp dot) {
      if (!llvm::is_contained(products, Pools(dot.getQuery(), dot.getKey())))
        products.push_back({dot.getQuery(), dot.getKey()});
    });
    ranks = static_cast<int>(llvm::count_if(asked, [](auto &one) { return isRank(one.first); }));
    planes = std::max(ranks, static_cast<int>(products.size()));
    // Blocks of tiles side by side: all their dot products at once, then the expressions of each.
    loop(s.constantInt(0), tiles(count, pooledBlock), {}, [&](Value at, mlir::ValueRange) {
      Value first = s.mul(at, s.constantInt(pooledBlock)),
            end = s.map(Function::Min, {s.add(first, s.constantInt(pooledBlock)), count});
      Interval keys = box(at, pooledBlock * tileK, S);
      Value possible =
          IntervalBuilder(builder, s.loc, program, {b, h, allQueries, keys}).of(resultOf(program, "mask")).hi;
      when(possible, [&] {
        for (size_t plane = 0; plane < products.size(); ++plane)
          multiply(static_cast<int>(plane), first, s.sub(end, first));
        eachTile([&] {
          loop(
              first, end, {},
              [&](Value kt, mlir::ValueRange) {
                storeChoice(asked, kt, chosen);
                return std::vector<Value>{};
              },
              tile::Independent::Nothing);
        });
      });
      when(negate(possible), [&] {
        eachTile([&] {
          loop(
              first, end, {},
              [&](Value kt, mlir::ValueRange) {
                store(s.constantBool(false), chosen, s.add(base, kt));
                for (int rank = 0; rank < ranks; ++rank) store(s.constantInt(unranked), workspace, inPlane(rank, kt));
                return std::vector<Value>{};
              },
              tile::Independent::Nothing);
        });
      });
      return std::vector<Value>{};
    });
    if (ranks > 0) eachTile([&] { rankAll(asked, chosen); });
  }

 private:
  using Known = llvm::DenseMap<Value, Value>;

  const KernelShape &shape;
  dialect::PairwiseOp round;
  size_t number;
  std::vector<PooledDescription> pools;
  std::vector<InputDescription> inputs;
  Value b, h, group, head, count;
  const int queryTilesEach = tilesOfProgram(tileK);
  Value queryTiles, firstTile, given;  ///< tiles of queries: all, and the program's own, at most `queryTilesEach`
  Value turn, tile, base;  ///< in eachTile, of the tile at hand: which of `given`, which of all, its row of the map
  Interval queries;        ///< there
  int ranks = 0;           ///< estimates of a tile: of topk, topp and near
  int planes = 0;          ///< of the workspace, for the estimates and the products they are made of
  using Pools = std::pair<llvm::StringRef, llvm::StringRef>;
  std::vector<Pools> products;  ///< of which pools, queries and keys, this round asks

  using Asked = llvm::ArrayRef<std::pair<llvm::StringRef, Value>>;

  /// For each tile of queries of the program: one body for all, in a loop.
  template <class Body>
  void eachTile(Body body) {
    loop(s.constantInt(0), given, {}, [&](Value index, mlir::ValueRange) {
      turn = index;
      tile = s.add(firstTile, turn);
      base = s.mul(s.add(s.mul(head, queryTiles), tile), count);
      queries = box(tile, tileQ, dim("T"));
      body();
      return std::vector<Value>{};
    });
  }

  static bool isRank(llvm::StringRef name) { return name == "topk" || name == "topp" || name == "near"; }
  Value flag(Value condition) { return s.select(condition, s.constantInt(1), s.constantInt(0)); }
  /// In the program's workspace: estimates, or the products they are made of, in the first planes; the masses of `topp`
  /// after them.
  Value inPlane(int plane, Value kt) {
    return s.add(s.mul(s.add(s.constantInt(plane * queryTilesEach), turn), count), kt);
  }
  Value estimate(int rank, Value kt) { return load(workspace, inPlane(rank, kt), builder.getI32Type()); }
  Value massAt(int rank, Value kt) { return inPlane(planes + rank, kt); }
  Value mass(int rank, Value kt) { return load(workspace, massAt(rank, kt), builder.getF32Type()); }
  Value compare(arith::CmpIPredicate predicate, Value x, Value y) {
    return arith::CmpIOp::create(builder, s.loc, predicate, x, y);
  }
  Value addF(Value x, Value y) { return arith::AddFOp::create(builder, s.loc, x, y); }
  Value zeroF() { return s.constant(0); }

  /// The block arguments of the round's program, at a tile.
  Known start(Value i, Value j) {
    mlir::Block &block = round.getBody().front();
    Known known;
    const Value pair[] = {b, h, i, j};
    for (unsigned at = 0; at < 4; ++at) known[block.getArgument(at)] = pair[at];
    return known;
  }

  /// The code of a value of the round's program.
  Value emit(Value value, Known &known) {
    operandsFirst(
        value, [&](Value own) { return known.contains(own); },
        [&](Value own) {
          mlir::Operation *op = own.getDefiningOp();
          mlir::IRMapping mapping;
          for (Value operand : op->getOperands()) mapping.map(operand, known.lookup(operand));
          Value copy = builder.clone(*op, mapping)->getResult(0);
          known[own] = copy;
        });
    return known.lookup(value);
  }

  /// The products of the query tiles' rows with those of `amount` key tiles from `first` on: in a plane of estimates,
  /// until these take their places.
  void multiply(int plane, Value first, Value amount) {
    Value rows[2];
    int64_t width = 0;
    const llvm::StringRef names[2] = {products[plane].first, products[plane].second};
    for (int side = 0; side < 2; ++side) {
      const PooledDescription &pooled = pools[std::stoul(names[side].substr(5).str())];
      const InputDescription &input =
          *llvm::find_if(inputs, [&](const InputDescription &own) { return own.name == pooled.input; });
      width = shape.dims.at(input.dims[3]);
      Value own = input.dims[1] == "G" ? group : h, heads = s.add(s.mul(b, dim(input.dims[1])), own);
      rows[side] =
          pooledRow(side == 1, heads, side == 0 ? firstTile : first, tiles(dim(input.dims[2]), pooled.tile), width);
    }
    Value to = s.add(s.mul(s.constantInt(plane * queryTilesEach), count),
                     first);  // of the first query tile; the others' follow by `count`
    tile::FlatDotsOp::create(builder, s.loc, names[0], rows[0], queryTilesEach, given, names[1], rows[1], pooledBlock,
                             width, amount, workspace, to, count);
  }
  Value product(dialect::DotOp dot, Value kt) {
    const auto plane = llvm::find(products, Pools(dot.getQuery(), dot.getKey())) - products.begin();
    return load(workspace, inPlane(static_cast<int>(plane), kt), builder.getF32Type());
  }

  /// What is asked of one tile: whether it is kept in any case, and its estimates.
  void storeChoice(Asked asked, Value kt, const std::string &chosen) {
    const auto all = rounds(module);
    Interval keys = box(kt, tileK, dim("S"));
    Value possible = IntervalBuilder(builder, s.loc, program, {b, h, queries, keys}).of(resultOf(program, "mask")).hi;
    if (number > 0) {
      const SelectedTiles coarse = tilesOf(all[number - 1]);
      Value qt = quotient(tile, coarse.tileQ / tileQ), at = quotient(kt, coarse.tileK / tileK);
      Value index =
          s.add(s.mul(s.add(s.mul(head, tiles(dim("T"), coarse.tileQ)), qt), tiles(dim("S"), coarse.tileK)), at);
      possible = both(possible, load(selectionBuffer(number - 1, all.size()), index, builder.getI1Type()));
    }
    Value at = s.add(base, kt);
    Known known = start(queries.lo, keys.lo);
    round.getBody().walk([&](dialect::DotOp dot) { known[dot.getResult()] = product(dot, kt); });
    Value always = s.constantBool(false), kept = always;
    std::vector<Value> estimates;
    for (auto &[name, value] : asked) {
      if (name == "always") always = either(always, emit(value, known));
      if (name == "where") kept = either(kept, emit(value, known));
    }
    store(both(possible, either(always, kept)), chosen, at);
    for (auto &[name, value] : asked) {
      if (!isRank(name)) continue;
      // What is kept in any case stands out of the ranking; what others must come near is measured too, but for the
      // diagonal.
      Value out = always;
      if (name == "near")
        out = both(always, both(s.map(Function::Lt, {queries.lo, s.add(keys.lo, s.constantInt(tileK))}),
                                s.map(Function::Lt, {keys.lo, s.add(queries.lo, s.constantInt(tileQ))})));
      estimates.push_back(s.select(both(possible, negate(out)), ordered(emit(value, known)), s.constantInt(unranked)));
    }
    for (size_t rank = 0; rank < estimates.size(); ++rank)
      store(estimates[rank], workspace, inPlane(static_cast<int>(rank), kt));
  }

  /// Of the tile at hand, once all its estimates are made.
  void rankAll(Asked asked, const std::string &chosen) {
    int rank = 0;
    for (size_t at = 0; at < asked.size(); ++at) {
      if (!isRank(asked[at].first)) continue;
      Known known = start(queries.lo, s.constantInt(0));
      Value amount = emit(asked[at + 1].second, known);
      if (asked[at].first == "topk") {
        keepTop(rank, amount, chosen);
      } else if (asked[at].first == "topp") {
        keepShare(rank, amount, chosen);
      } else {
        keepNear(rank, amount, chosen, [&](Value kt) {
          Known inner = start(queries.lo, s.mul(kt, s.constantInt(tileK)));
          Value always = s.constantBool(false);
          for (auto &[name, value] : asked)
            if (name == "always") always = either(always, emit(value, inner));
          return always;
        });
      }
      ++rank;
    }
  }

  /// A number's bits as an int that compares as the number does; -0 counts as 0.
  Value ordered(Value number) {
    Value bits = arith::BitcastOp::create(builder, s.loc, builder.getI32Type(), addF(number, zeroF()));
    Value flipped = arith::XOrIOp::create(builder, s.loc, bits, s.constantInt(std::numeric_limits<int32_t>::max()));
    return s.select(compare(arith::CmpIPredicate::slt, bits, s.constantInt(0)), flipped, bits);
  }
  Value numberOf(Value bits) {
    Value flipped = arith::XOrIOp::create(builder, s.loc, bits, s.constantInt(std::numeric_limits<int32_t>::max()));
    Value own = s.select(compare(arith::CmpIPredicate::slt, bits, s.constantInt(0)), flipped, bits);
    return arith::BitcastOp::create(builder, s.loc, builder.getF32Type(), own);
  }

  /// The greatest estimate down to which `enough` holds: below every ranked one where it never does.
  template <class Enough>
  Value bisect(Enough enough) {
    Value low = s.constantInt(unranked + 1), high = s.constantInt(std::numeric_limits<int32_t>::max());
    return loop(s.constantInt(0), s.constantInt(32), {low, high}, [&](Value, mlir::ValueRange carried) {
      // Their mean, rounded down, without a sum that overflows.
      Value common = arith::AndIOp::create(builder, s.loc, carried[0], carried[1]);
      Value differing = arith::XOrIOp::create(builder, s.loc, carried[0], carried[1]);
      Value middle = arith::AddIOp::create(builder, s.loc, common,
                                           arith::ShRSIOp::create(builder, s.loc, differing, s.constantInt(1)));
      Value holds = enough(middle);
      return std::vector<Value>{s.select(holds, middle, carried[0]), s.select(holds, carried[1], middle)};
    })[0];
  }

  Value counted(int rank, arith::CmpIPredicate predicate, Value bound) {
    return loop(
        s.constantInt(0), count, {s.constantInt(0)},
        [&](Value kt, mlir::ValueRange carried) {
          return std::vector<Value>{s.add(carried[0], flag(compare(predicate, estimate(rank, kt), bound)))};
        },
        tile::Independent::Add)[0];
  }
  Value summed(int rank, arith::CmpIPredicate predicate, Value bound) {
    return loop(
        s.constantInt(0), count, {zeroF()},
        [&](Value kt, mlir::ValueRange carried) {
          Value own = s.select(compare(predicate, estimate(rank, kt), bound), mass(rank, kt), zeroF());
          return std::vector<Value>{addF(carried[0], own)};
        },
        tile::Independent::Add)[0];
  }

  /// The `amount` greatest; of equal ones the first.
  void keepTop(int rank, Value amount, const std::string &chosen) {
    Value bound = bisect(
        [&](Value middle) { return s.map(Function::Ge, {counted(rank, arith::CmpIPredicate::sge, middle), amount}); });
    Value left = s.sub(amount, counted(rank, arith::CmpIPredicate::sgt, bound));
    loop(s.constantInt(0), count, {left}, [&](Value kt, mlir::ValueRange carried) {
      Value own = estimate(rank, kt);
      Value tie = both(both(compare(arith::CmpIPredicate::eq, own, bound),
                            compare(arith::CmpIPredicate::ne, own, s.constantInt(unranked))),
                       s.map(Function::Gt, {carried[0], s.constantInt(0)}));
      when(either(compare(arith::CmpIPredicate::sgt, own, bound), tie),
           [&] { store(s.constantBool(true), chosen, s.add(base, kt)); });
      return std::vector<Value>{s.sub(carried[0], flag(tie))};
    });
  }

  /// Those at most `distance` below the greatest of the tiles that `always` keeps; none where there is no such tile.
  template <class Always>
  void keepNear(int rank, Value distance, const std::string &chosen, Always always) {
    Value top = loop(
        s.constantInt(0), count, {s.constantInt(unranked)},
        [&](Value kt, mlir::ValueRange carried) {
          return std::vector<Value>{
              s.map(Function::Max, {carried[0], s.select(always(kt), estimate(rank, kt), s.constantInt(unranked))})};
        },
        tile::Independent::Max)[0];
    Value bound = s.sub(numberOf(top), distance);
    Value some = compare(arith::CmpIPredicate::ne, top, s.constantInt(unranked));
    loop(
        s.constantInt(0), count, {},
        [&](Value kt, mlir::ValueRange) {
          Value own = estimate(rank, kt);
          Value ranked = both(some, compare(arith::CmpIPredicate::ne, own, s.constantInt(unranked)));
          when(both(ranked, s.map(Function::Ge, {numberOf(own), bound})),
               [&] { store(s.constantBool(true), chosen, s.add(base, kt)); });
          return std::vector<Value>{};
        },
        tile::Independent::Nothing);
  }

  /// The fewest whose softmax over the ranked tiles sums up to `share`.
  void keepShare(int rank, Value share, const std::string &chosen) {
    Value top = loop(
        s.constantInt(0), count, {s.constantInt(unranked)},
        [&](Value kt, mlir::ValueRange carried) {
          return std::vector<Value>{s.map(Function::Max, {carried[0], estimate(rank, kt)})};
        },
        tile::Independent::Max)[0];
    Value total = loop(
        s.constantInt(0), count, {zeroF()},
        [&](Value kt, mlir::ValueRange carried) {
          Value own = estimate(rank, kt);
          Value above = s.map(Function::Exp, {s.sub(numberOf(own), numberOf(top))});
          Value part = s.select(compare(arith::CmpIPredicate::ne, own, s.constantInt(unranked)), above, zeroF());
          store(part, workspace, massAt(rank, kt));
          return std::vector<Value>{addF(carried[0], part)};
        },
        tile::Independent::Add)[0];
    Value wanted = s.mul(share, total);
    Value bound = bisect(
        [&](Value middle) { return s.map(Function::Ge, {summed(rank, arith::CmpIPredicate::sge, middle), wanted}); });
    loop(s.constantInt(0), count, {summed(rank, arith::CmpIPredicate::sgt, bound)},
         [&](Value kt, mlir::ValueRange carried) {
           Value own = estimate(rank, kt);
           Value tie = both(both(compare(arith::CmpIPredicate::eq, own, bound),
                                 compare(arith::CmpIPredicate::ne, own, s.constantInt(unranked))),
                            s.map(Function::Lt, {carried[0], wanted}));
           when(either(compare(arith::CmpIPredicate::sgt, own, bound), tie),
                [&] { store(s.constantBool(true), chosen, s.add(base, kt)); });
           return std::vector<Value>{addF(carried[0], s.select(tie, mass(rank, kt), zeroF()))};
         });
  }
};

class ListBuilder : SelectionKernel {
 public:
  using SelectionKernel::SelectionKernel;

  /// The keys that the map has chosen for each tile of queries, in their order, and how many. What is left of the last
  /// tile of `multiple` keys becomes -1.
  void build(int multiple) {
    mlir::Block *entry = begin("list_keys", tile::Grid::Query, 3);
    Value b = entry->getArgument(0), h = entry->getArgument(1), tile = entry->getArgument(2), S = dim("S");
    Value row = s.add(s.mul(s.add(s.mul(b, dim("H")), h), tiles(dim("T"), tileQ)), tile);
    Value begin = s.mul(row, S);
    Value end = loop(
        s.constantInt(0), S, {begin},
        [&](Value key, mlir::ValueRange carried) {
          return std::vector<Value>{
              append(key, load("selection", s.add(begin, key), builder.getI1Type()), selectedKeys, carried[0])};
        },
        tile::Independent::Append)[0];
    Value count = s.sub(end, begin);
    store(count, selectedCounts, row);
    Value filled = s.map(Function::Min, {s.mul(tiles(count, multiple), s.constantInt(multiple)), S});
    loop(
        end, s.add(begin, filled), {},
        [&](Value at, mlir::ValueRange) {
          store(s.constantInt(-1), selectedKeys, at);
          return std::vector<Value>{};
        },
        tile::Independent::Nothing);
  }
};

}  // namespace

SelectedTiles selectedTiles(mlir::ModuleOp module) {
  const auto all = rounds(module);
  return all.empty() || tilesOf(all.back()).tileK == 1 ? SelectedTiles() : tilesOf(all.back());
}

std::string selectionBuffer(size_t round, size_t rounds) {
  return round + 1 == rounds ? "selection" : "round." + std::to_string(round);
}

void buildSelect(mlir::ModuleOp module, const std::string &kernel, const KernelShape &shape) {
  if (kernel == "list_keys") {
    const SelectedTiles last = tilesOf(rounds(module).back());
    return ListBuilder(module, last.tileQ, last.tileK).build(shape.tileK);
  }
  const size_t number = std::stoul(kernel.substr(kernel.find('_') + 1));
  if (kernel.rfind("select_", 0) == 0) {
    const auto all = rounds(module);
    internalCheck(number < all.size(), "build_select", "no kernel named " + kernel);
    SelectBuilder(module, shape, all[number], number).build();
    return;
  }
  const auto pools = describedPools(module);
  internalCheck(number < pools.size(), "build_select", "no kernel named " + kernel);
  for (const InputDescription &input : describedInputs(module))
    if (input.name == pools[number].input)
      PoolBuilder(module, pools[number].tile, pools[number].tile)
          .build(number, pools[number], input, shape.dims.at(input.dims.back()));
}

}  // namespace weft
