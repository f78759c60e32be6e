// RUN: weft-opt %s --differentiate --build-kernel="kernel=forward dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=FORWARD
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=BACKWARD
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward_dkdv.M dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=KEYS
// RUN: weft-opt %s --build-kernel="kernel=plan_band.M dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=BAND

// One softmax goes through the keys of v, then through those that M counts.
// FORWARD-LABEL: tile.kernel @t.forward grid query
// FORWARD: %[[FIRST:.*]]:3 = tile.for keys
// FORWARD: tile.load @k
// FORWARD: tile.for keys{{.*}} init(%[[FIRST]]#0, %[[FIRST]]#1, %[[FIRST]]#2
// FORWARD-SAME: keyDim = "M"
// FORWARD: tile.load @sk
// FORWARD: tile.load @sv
// FORWARD: tile.store %{{.*}}, @o

// dq is summed over both; each has its own gradients of keys and values.
// BACKWARD-LABEL: tile.kernel @t.backward grid group
// BACKWARD: %[[DQ:.*]] = tile.for keys
// BACKWARD: tile.dot_into tn {{.*}} into @dv
// BACKWARD: %[[BOTH:.*]] = tile.for keys{{.*}} init(%[[DQ]]
// BACKWARD: tile.dot_into tn {{.*}} into @dsv
// BACKWARD: tile.dot_into tn {{.*}} into @dsk
// BACKWARD: tile.store %[[BOTH]], @dq

// KEYS-LABEL: tile.kernel @t.backward_dkdv.M grid key {{.*}}keyDim = "M"
// KEYS-DAG: tile.store %{{.*}}, @dsv
// KEYS-DAG: tile.store %{{.*}}, @dsk

// BAND-LABEL: tile.kernel @t.plan_band.M grid head
// BAND: weft.dim "M"
// BAND-COUNT-4: tile.store_flat %{{.*}}, @band.M
module @t attributes {weft.normalize = "softmax", weft.also = [{dim = "M", values = "sv"}], weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}, {name = "sk", dims = ["B", "H", "M", "D"], element = "float"},
    {name = "sv", dims = ["B", "H", "M", "E"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
  weft.pairwise @forward.M {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Gt %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @sk
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
