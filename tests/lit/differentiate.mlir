// RUN: weft-opt %s --differentiate --cse | FileCheck %s

// ds reaches the dot and, scaled by the dot, the slope; only one exp is taken, in base 2.
// CHECK-LABEL: weft.pairwise @backward
// CHECK: %[[S:.*]] = weft.dot @q, @k
// CHECK: %[[C:.*]] = weft.read @c[%{{.*}}] : f32
// CHECK: %[[SCORE:.*]] = weft.map Mul %[[S]], %[[C]]
// CHECK: %[[DOV:.*]] = weft.dot @do, @v
// CHECK: %[[PEAK:.*]] = weft.row "peak"
// CHECK: %[[OFF:.*]] = weft.map Sub %[[SCORE]], %[[PEAK]]
// CHECK: %[[X:.*]] = weft.map Mul %[[OFF]], %{{.*}}
// CHECK: %[[E:.*]] = weft.map Exp2 %[[X]]
// CHECK: %[[SCALE:.*]] = weft.row "scale"
// CHECK: weft.map Mul %[[E]], %[[SCALE]]
// CHECK-NOT: weft.map "Exp
// CHECK: %[[DELTA:.*]] = weft.row "delta"
// CHECK: %[[D:.*]] = weft.map Sub %[[DOV]], %[[DELTA]]
// CHECK: %[[DS:.*]] = weft.map Mul %{{.*}}, %[[D]]
// CHECK: %[[DDOT:.*]] = weft.map Mul %[[DS]], %[[C]]
// CHECK: %[[DC:.*]] = weft.map Mul %[[DS]], %[[S]]
// Masked pairs pass nothing on, whatever they hold.
// CHECK: %[[KEPTC:.*]] = weft.map Select %{{.*}}, %[[DC]]
// CHECK: weft.accumulate @c[%{{.*}}], %[[KEPTC]]
// CHECK: %[[KEPT:.*]] = weft.map Select %{{.*}}, %[[DDOT]]
// CHECK: weft.cotangent @q, @k, %[[KEPT]]
// CHECK: weft.yield ["value"]
module @t attributes {weft.normalize = "softmax", weft.inputs = []} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    %k = weft.read @c[%h] : f32
    %p = weft.map Mul %s, %k : (f32, f32) -> f32
    weft.yield ["mask", "score"] %m, %p : i1, f32
  }
}
