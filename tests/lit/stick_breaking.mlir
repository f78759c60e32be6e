// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" | FileCheck %s
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward dims=D=64,E=32,R=16" --cse | FileCheck %s --check-prefix=BACKWARD

// The newest key takes its piece first: what it leaves is a running sum over the keys after each one.
// CHECK-LABEL: tile.kernel @t.forward
// CHECK: tile.for keys_descending
// CHECK: weft.map Softplus
// CHECK: tile.scan_sum after
// CHECK: weft.map Exp
// CHECK: tile.dot nn

// First the whole stick, then pieces from the oldest on; what a score takes from the keys before it is their p dp.
// BACKWARD-LABEL: tile.kernel @t.backward
// BACKWARD: tile.for keys
// BACKWARD: tile.scan_sum after
// BACKWARD: tile.for keys
// BACKWARD: tile.scan_sum after
// BACKWARD: tile.scan_sum before
// BACKWARD: tile.dot_into tn
module @t attributes {weft.normalize = "stick_breaking", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Gt %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
