// RUN: weft-opt %s | weft-opt | FileCheck %s

// CHECK-LABEL: weft.pairwise @forward
// CHECK: %[[S:.*]] = weft.dot @q, @k
// CHECK: %[[Z:.*]] = weft.read @span[%{{.*}}] : f32
// CHECK: %[[P:.*]] = weft.map Mul %[[S]], %[[Z]] : (f32, f32) -> f32
// CHECK: weft.yield ["score"] %[[P]] : f32
weft.pairwise @forward {
^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
  %s = weft.dot @q, @k
  %z = weft.read @span[%h] : f32
  %t = weft.dim "T"
  %u = weft.random
  %l = weft.row "peak"
  %p = weft.map Mul %s, %z : (f32, f32) -> f32
  weft.accumulate @span[%h], %p
  weft.cotangent @q, @k, %p
  weft.yield ["score"] %p : f32
}

// CHECK-LABEL: tile.kernel @k grid query schedule<q = 64, k = 32>
// CHECK: tile.for keys[%{{.*}}, %{{.*}}] of %{{.*}} init(%{{.*}} : tensor<64x16xf32>) -> tensor<64x16xf32>
// CHECK: tile.dot nt
// CHECK: tile.pairwise at
// CHECK: reduce (max) -> tensor<64x32xf32>, tensor<64xf32>
// CHECK: tile.dot nn
// CHECK: tile.store
tile.kernel @k grid query schedule <q = 64, k = 32> {
^bb0(%b: i32, %h: i32, %qt: i32):
  tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
  tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
  tile.tensor @o : f32 ["B", "H", "T", "D"] result strided
  %zero = arith.constant 0.0 : f32
  %q = tile.load @q[%b, %h] query rows %qt : tensor<64x16xf32>
  %acc = tile.fill query %zero : tensor<64x16xf32>
  %o = tile.for keys[%b, %h] of %qt init(%acc : tensor<64x16xf32>) -> tensor<64x16xf32> {
  ^bb1(%kt: i32, %full: i1, %carried: tensor<64x16xf32>):
    %k = tile.load @k[%b, %h] key rows %kt : tensor<32x16xf32>
    %s = tile.dot nt %q, %k : tensor<64x16xf32>, tensor<32x16xf32> -> tensor<64x32xf32>
    %p, %m = tile.pairwise at[%b, %h, %qt, %kt] full %full tiles(%s : tensor<64x32xf32>) rows() reduce(max) -> tensor<64x32xf32>, tensor<64xf32> {
    ^bb2(%i: i32, %j: i32, %x: f32):
      tile.result %x, %x : f32, f32
    }
    %next = tile.dot nn %p, %k add %carried : tensor<64x16xf32> : tensor<64x32xf32>, tensor<32x16xf32> -> tensor<64x16xf32>
    tile.yield %next : tensor<64x16xf32>
  }
  tile.store %o, @o[%b, %h] rows %qt : tensor<64x16xf32>
}
