// RUN: weft-opt %s --build-kernel="kernel=plan_lists dims=D=64,E=32" | FileCheck %s --check-prefix=PLAN
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward dims=D=64,E=32" | FileCheck %s --check-prefix=BACKWARD
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward dims=D=64,E=32" | weft-opt | FileCheck %s --check-prefix=BACKWARD

// A list for each query: rows of a tile are the heads of a group, and b counts the queries of all batch entries.
// PLAN-LABEL: tile.kernel @t.plan_lists grid query schedule<q = 64, k = 64> rows heads listed <@list, "N", 1>
// PLAN: ^bb0(%[[B:.*]]: i32, %[[G:.*]]: i32, %{{.*}}: i32)
// PLAN: %[[T:.*]] = weft.dim "T"
// PLAN: %[[ENTRY:.*]] = arith.divsi %[[B]], %[[T]] : i32
// PLAN: tile.read_range @list axis 2 to %{{.*}}[%[[ENTRY]], %

// BACKWARD-LABEL: tile.kernel @t.backward grid group schedule<q = 64, k = 64> rows heads
// BACKWARD: ^bb0(%[[B:.*]]: i32, %[[G:.*]]: i32)
// BACKWARD: tile.for positions[%[[B]], %[[G]]] of %[[B]]
// BACKWARD: ^bb0(%[[P:.*]]: i32)
// BACKWARD: tile.for heads[%[[P]], %[[G]]] of %[[G]]
// BACKWARD: tile.dot_into tn %{{.*}} into @dk[%[[P]], %
module @t attributes {weft.normalize = "softmax", weft.keys = {input = "list", dim = "N", tile = 1 : i32, rows = 1 : i32}, weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "G", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "G", "S", "E"], element = "float"}, {name = "list", dims = ["B", "T", "N"], element = "int"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
