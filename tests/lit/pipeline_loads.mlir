// RUN: weft-opt %s --pipeline-loads=stages=3 | FileCheck %s
// RUN: weft-opt %s --pipeline-loads=stages=1 | FileCheck %s --check-prefix=ONE
// RUN: not weft-opt %s --pipeline-loads=stages=9 2>&1 | FileCheck %s --check-prefix=WRONG

// WRONG: pipeline-loads: expected 1 to 4 stages, got 9

// What no loop changes is copied where it stands; what a turn loads anew streams, two turns ahead of its use.
// CHECK-LABEL: tile.kernel @k
// CHECK: %[[Q:.*]] = cta.alloc : <64x64xbf16, #cta.padded<pitch = 144>>
// CHECK: %[[TOKEN:.*]] = cta.copy_async @q{{.*}} to %[[Q]]
// CHECK: cta.commit_group of %[[TOKEN]]
// CHECK: cta.wait_group 0
// CHECK: %[[TILES:.*]] = cta.kept_tiles keys[{{.*}}] of {{.*}} kept [@band]
// CHECK: %[[FROM:.*]], %[[TO:.*]] = cta.turns %[[TILES]]
// CHECK: %[[K:.*]] = cta.alloc : <3x64x64xbf16, #cta.padded<pitch = 144>>
// CHECK: cta.alloc : <3x1x64xf32, #cta.padded<pitch = 256>>
// CHECK: cta.copy_async @k
// CHECK-NEXT: cta.stage
// CHECK-NEXT: cta.copy_rows_async @lse
// CHECK: cta.copy_async @k
// CHECK: scf.for %[[AT:.*]] = %[[FROM]] to %[[TO]]
// CHECK: cta.wait_group 1
// CHECK: %[[AHEAD:.*]] = arith.addi %[[AT]]
// CHECK-DAG: %[[AHEAD32:.*]] = arith.trunci %[[AHEAD]] : i64 to i32
// CHECK-DAG: %[[TO32:.*]] = arith.trunci %[[TO]] : i64 to i32
// CHECK: %[[EXISTS:.*]] = arith.cmpi slt, %[[AHEAD32]], %[[TO32]]
// CHECK: scf.if %[[EXISTS]]
// CHECK: %[[NEXT:.*]], %{{.*}} = cta.turn %[[AHEAD]] of %[[TILES]]
// CHECK: cta.copy_async @k{{.*}} rows %[[NEXT]] to
// CHECK: cta.copy_rows_async @lse[{{.*}}] rows %[[NEXT]] fill 1.000000e+00 to
// CHECK: cta.commit_group
// CHECK: cta.turn %[[AT]] of %[[TILES]]
// CHECK: %[[STAGE:.*]] = cta.stage %[[K]]
// CHECK: %[[S:.*]] = cta.mma m16n8k16_bf16 nt %[[Q]], %[[STAGE]]
// CHECK: %[[P:.*]] = cta.alloc
// CHECK: cta.store_shared %[[S]], %[[P]]
// CHECK: cta.mma m16n8k16_bf16 tn %[[P]], %[[STAGE]]
// CHECK: scf.yield
// CHECK-NOT: cta.load
// CHECK-NOT: cta.share

// One stage: copied and waited for at the turn's start, none before the loop.
// ONE: cta.alloc : <1x64x64xbf16
// ONE-NOT: cta.copy_async
// ONE: scf.for
// ONE: cta.copy_async @k
// ONE: cta.commit_group
// ONE: cta.wait_group 0
// ONE: cta.mma
module @t {
  tile.kernel @k grid query schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @lse : f32 ["B", "H", "T"] row
    tile.tensor @o : bf16 ["B", "H", "T", "D"] result strided
    tile.tensor @band : i32 [] plan
    %q = cta.load @q[%b, %h] rows %qt : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : tensor<64x64xf32, #cta.mma_sync<warps = 4>>
    %sum = tile.for keys [%b, %h] of %qt kept [@band] init(%start : tensor<64x64xf32, #cta.mma_sync<warps = 4>>)
        -> tensor<64x64xf32, #cta.mma_sync<warps = 4>> {
    ^bb0(%kt: i32, %full: i1, %acc: tensor<64x64xf32, #cta.mma_sync<warps = 4>>):
      %k = cta.load @k[%b, %h] rows %kt : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
      %lse = cta.load_rows @lse[%b, %h] rows %kt fill 1.0 : !cta.shared<1x64xf32, #cta.padded<pitch = 256>>
      %s = cta.mma m16n8k16_bf16 nt %q, %k
        : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>, !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
        -> tensor<64x64xf32, #cta.mma_sync<warps = 4>>
      %p = cta.share %s : tensor<64x64xf32, #cta.mma_sync<warps = 4>> -> !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
      %next = cta.mma m16n8k16_bf16 tn %p, %k add %acc : tensor<64x64xf32, #cta.mma_sync<warps = 4>>
        : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>, !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
        -> tensor<64x64xf32, #cta.mma_sync<warps = 4>>
      tile.yield %next : tensor<64x64xf32, #cta.mma_sync<warps = 4>>
    }
    tile.store %sum, @o[%b, %h] rows %qt : tensor<64x64xf32, #cta.mma_sync<warps = 4>>
  }
}
