// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=FORWARD
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=BACKWARD
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward_dkdv dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=KEYS
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward_queries dims=D=64,E=32,R=16 type=bf16" | FileCheck %s --check-prefix=BYQUERIES
// RUN: weft-opt %s --differentiate --build-kernel="kernel=backward_keys dims=D=64,E=32,R=16 type=bf16" | FileCheck %s --check-prefix=BYKEYS
// RUN: weft-opt %s --build-kernel="kernel=plan_band dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=BAND
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" --expand-functions | FileCheck %s --check-prefix=EXPAND
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16 type=bf16 shared-rows=true" | FileCheck %s --check-prefix=SHARED

// FORWARD-LABEL: tile.kernel @t.forward grid query
// FORWARD: tile.for keys
// FORWARD: %[[S:.*]] = tile.dot nt
// FORWARD: tile.pairwise {{.*}} tiles(%[[S]] : tensor<64x64xf32>) {{.*}} reduce (max)
// FORWARD: tile.pairwise {{.*}} reduce (add)
// FORWARD: %[[SCALED:.*]] = tile.scale_rows
// FORWARD: tile.dot nn {{.*}} add %[[SCALED]]
// FORWARD: tile.store %{{.*}}, @o
// FORWARD: tile.store_rows %{{.*}}, @lse

// Where several threads hold a row: exponents in one fma, sums in parts until the last tile.
// SHARED-LABEL: tile.kernel @t.forward grid query
// SHARED: tile.for keys
// SHARED: tile.pairwise {{.*}} reduce (max)
// SHARED: %[[X:.*]], %[[C:.*]] = tile.below_peak %{{.*}}, %{{.*}} by %{{.*}} : tensor<64x64xf32>, tensor<64xf32>
// SHARED: tile.pairwise {{.*}} parts tiles(%[[X]] : tensor<64x64xf32>) rows(%[[C]] : tensor<64xf32>) reduce (add)
// SHARED: math.fma
// SHARED: tile.yield
// SHARED: tile.add_parts %{{.*}} : tensor<64xf32>
// SHARED: tile.store %{{.*}}, @o

// BACKWARD-LABEL: tile.kernel @t.backward grid group
// BACKWARD: tile.for heads
// BACKWARD: tile.for queries
// BACKWARD: tile.for keys
// BACKWARD-COUNT-2: tile.dot nt
// BACKWARD: tile.dot_into tn {{.*}} into @dv
// BACKWARD: tile.dot_into tn {{.*}} into @dk
// BACKWARD: tile.dot nn
// BACKWARD: tile.store %{{.*}}, @dq

// One tile of queries beside others: what is added to keys is added atomically.
// BYQUERIES-LABEL: tile.kernel @t.backward_queries grid query
// BYQUERIES-DAG: tile.tensor @dq : bf16
// BYQUERIES-DAG: tile.tensor @dk : f32
// BYQUERIES: tile.for keys
// BYQUERIES: tile.dot_into tn {{.*}} atomic into @dv
// BYQUERIES: tile.dot_into tn {{.*}} atomic into @dk
// BYQUERIES: tile.store %{{.*}}, @dq

// One tile of keys beside others: dq is added, in f32.
// BYKEYS-LABEL: tile.kernel @t.backward_keys grid key
// BYKEYS-DAG: tile.tensor @dq : f32
// BYKEYS: tile.for kept_queries
// BYKEYS-COUNT-2: tile.dot tn
// BYKEYS: tile.dot_into nn {{.*}} atomic into @dq
// BYKEYS-DAG: tile.store %{{.*}}, @dv
// BYKEYS-DAG: tile.store %{{.*}}, @dk

// KEYS-LABEL: tile.kernel @t.backward_dkdv grid key
// KEYS: tile.for kept_queries
// KEYS-COUNT-2: tile.dot tn
// KEYS-DAG: tile.store %{{.*}}, @dv
// KEYS-DAG: tile.store %{{.*}}, @dk

// i >= j rises with i - j: one bisection, no list.
// BAND-LABEL: tile.kernel @t.plan_band grid head
// BAND-COUNT-1: scf.for
// BAND-NOT: scf.for
// BAND-COUNT-4: tile.store_flat

// EXPAND-LABEL: tile.kernel @t.forward
// EXPAND-NOT: weft.map
// EXPAND: arith.cmpi sge
// EXPAND: math.exp
module @t attributes {weft.normalize = "softmax", weft.inputs = [
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
