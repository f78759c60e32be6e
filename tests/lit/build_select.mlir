// RUN: weft-opt %s --build-kernel="kernel=pool_0 dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=POOL
// RUN: weft-opt %s --build-kernel="kernel=pool_1 dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=KEYS
// RUN: weft-opt %s --build-kernel="kernel=select_0 dims=D=64,E=32,R=16" | FileCheck %s
// RUN: weft-opt %s --build-kernel="kernel=plan_lists dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=PLAN

// The mean of the tile before: no rows before the first tile.
// POOL-LABEL: tile.kernel @t.pool_0 grid query
// POOL: tile.pool_rows @q[%arg0, %arg1] rows %{{.*}} to %{{.*}} by mean width 64 into @pool.0[%{{.*}}] stride 1

// Key tiles lie column by column, in blocks.
// KEYS-LABEL: tile.kernel @t.pool_1 grid key
// KEYS: arith.divsi %arg2, %c32
// KEYS: tile.pool_rows @k[%arg0, %arg1] rows %{{.*}} to %{{.*}} by mean width 64 into @pool.1[%{{.*}}] stride 32

// Blocks that the masks leave possible: their products, then one estimate a tile in the product's place. The bisection over
// the estimates' bits, then the map.
// CHECK-LABEL: tile.kernel @t.select_0 grid query schedule<q = 64, k = 64>
// CHECK: scf.if
// CHECK: tile.flat_dots @pool.0[%{{.*}}] up_to 1 given %{{.*}}, @pool.1[%{{.*}}] of 32 width 64 count %{{.*}} to @workspace
// CHECK: tile.load_flat @workspace[%{{.*}}] : f32
// CHECK: tile.store_flat %{{.*}}, @selection
// CHECK: tile.store_flat %{{.*}}, @workspace[%{{.*}}] : i32
// CHECK: {tile.independent = #tile.independent<nothing>}
// CHECK: scf.for %{{.*}} = %{{.*}} to %c32
// CHECK: tile.load_flat @workspace[%{{.*}}] : i32
// CHECK: tile.store_flat %{{.*}}, @selection

// Lists of kept tiles read the map.
// PLAN-LABEL: tile.kernel @t.plan_lists
// PLAN: tile.load_flat @selection
// PLAN: tile.append %{{.*}} to @entries
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "G", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "G", "S", "E"], element = "float"}],
    weft.pools = [{pool = "mean_before", input = "q", tile = 64 : i32}, {pool = "mean", input = "k", tile = 64 : i32}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
  weft.pairwise @select_0 attributes {weft.tiles = array<i32: 64, 64>} {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %a = weft.dot @pool.0, @pool.1
    %n = arith.constant 4 : i32
    %own = weft.map Eq %i, %j : (i32, i32) -> i1
    weft.yield ["topk", "amount", "always"] %a, %n, %own : f32, i32, i1
  }
}
