// RUN: weft-opt %s --build-kernel="kernel=select_0 dims=D=64,E=32,R=16" | FileCheck %s
// RUN: weft-opt %s --build-kernel="kernel=list_keys dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=LIST
// RUN: weft-opt %s --build-kernel="kernel=plan_lists dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=PLAN

// A tile of one key, a program for four tiles of queries. What is always kept is measured off the diagonal too: its greatest
// estimate is the anchor.
// CHECK-LABEL: tile.kernel @t.select_0 grid query schedule<q = 256, k = 1>
// CHECK: tile.flat_dots @pool.0[%{{.*}}] up_to 4
// CHECK: tile.store_flat %{{.*}}, @selection
// CHECK: tile.store_flat %{{.*}}, @workspace
// CHECK: {tile.independent = #tile.independent<nothing>}
// CHECK: {tile.independent = #tile.independent<nothing>}
// CHECK: {tile.independent = #tile.independent<max>}
// CHECK: tile.store_flat %{{.*}}, @selection

// The chosen keys one after another, how many, and -1 up to the end of the last tile.
// LIST-LABEL: tile.kernel @t.list_keys grid query schedule<q = 64, k = 1>
// LIST: tile.load_flat @selection
// LIST: tile.append %{{.*}} to @selection.keys
// LIST: {tile.independent = #tile.independent<append>}
// LIST: tile.store_flat %{{.*}}, @selection.counts
// LIST: tile.store_flat %{{.*}}, @selection.keys

// Attention follows the lists, as far as they go.
// PLAN-LABEL: tile.kernel @t.plan_lists
// PLAN-NOT: tile.load_flat @selection[
// PLAN: tile.load_flat @selection.counts
// PLAN: tile.read_range @selection.keys
// PLAN: tile.append %{{.*}} to @entries
module @t attributes {weft.normalize = "softmax", weft.keys = {input = "selection.keys", dim = "S", tile = 64 : i32}, weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "G", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "G", "S", "E"], element = "float"}], weft.pools = [
    {pool = "mean_before", input = "q", tile = 64 : i32}, {pool = "first", input = "k", tile = 1 : i32}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
  weft.pairwise @select_0 attributes {weft.tiles = array<i32: 64, 1>} {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %a = weft.dot @pool.0, @pool.1
    %near = arith.constant 4.0 : f32
    %d = weft.map Sub %i, %j : (i32, i32) -> i32
    %w = arith.constant 64 : i32
    %always = weft.map Le %d, %w : (i32, i32) -> i1
    weft.yield ["near", "amount", "always"] %a, %near, %always : f32, f32, i1
  }
}
