// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" | FileCheck %s
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward_delta dims=D=64,E=32,R=16" --cse | FileCheck %s --check-prefix=DELTA

// The row's peak, then turns of Newton's method on the threshold, then the output. Logits are made anew each time.
// CHECK-LABEL: tile.kernel @t.forward
// CHECK: tile.for keys
// CHECK: reduce (max)
// CHECK: %[[TURNS:.*]] = arith.constant 8 : i32
// CHECK: tile.for turns[%{{.*}}, %{{.*}}] of %[[TURNS]]
// CHECK: tile.for keys
// CHECK: tile.dot nt
// CHECK: reduce (add, add)
// CHECK: weft.map Sqrt
// CHECK: tile.for keys
// CHECK: tile.dot nn
// CHECK: tile.store_rows %{{.*}}, @row.threshold

// The mean of dp that a score's cotangent is taken from has sums of its own.
// DELTA-LABEL: tile.kernel @t.backward_delta
// DELTA: tile.for keys
// DELTA: reduce (add, add)
// DELTA: tile.store_rows %{{.*}}, @delta
module @t attributes {weft.normalize = "entmax15", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
