// RUN: weft-opt %s --mark-exact | FileCheck %s
// RUN: weft-opt %s --mark-exact --build-kernel="kernel=plan_lists dims=D=64,E=32,R=16" --expand-functions | FileCheck %s --check-prefix=EXPAND

// Positions and dims are far from the ends of the ints; what tables hold is not.
// CHECK-LABEL: weft.pairwise @forward
// CHECK: %[[D:.*]] = weft.map Sub exact %{{.*}}, %{{.*}}
// CHECK: %[[X:.*]] = weft.read @x
// CHECK: weft.map Add %[[X]], %[[D]]
// CHECK: %[[M:.*]] = weft.map Clamp %[[X]]
// CHECK: weft.map Add exact %[[M]], %[[D]]
// CHECK: weft.map Mod %[[X]]
// CHECK: weft.map Mul exact
// CHECK: weft.map Neg %[[X]]

// A sum that can leave 32 bits goes to their end.
// EXPAND-LABEL: tile.kernel @t.plan_lists
// EXPAND: arith.shrsi
// EXPAND: arith.select
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}, {name = "x", dims = ["T"], element = "int"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %zero = arith.constant 0 : i32
    %seven = arith.constant 7 : i32
    %d = weft.map Sub %i, %j : (i32, i32) -> i32
    %x = weft.read @x[%i] : i32
    %y = weft.map Add %x, %d : (i32, i32) -> i32
    %in = weft.map Clamp %x, %zero, %seven : (i32, i32, i32) -> i32
    %z = weft.map Add %in, %d : (i32, i32) -> i32
    %r = weft.map Mod %x, %seven : (i32, i32) -> i32
    %p = weft.map Mul %r, %seven : (i32, i32) -> i32
    %n = weft.map Neg %x : (i32) -> i32
    %c0 = weft.map Ge %y, %p : (i32, i32) -> i1
    %c1 = weft.map Ge %z, %n : (i32, i32) -> i1
    %c = weft.map And %c0, %c1 : (i1, i1) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
