// RUN: weft-opt %s --overlap-products | FileCheck %s

// Two products that need nothing of one another go on together. The first is waited for before what needs it; the other
// goes on. Nothing is under way where shared memory is written or a turn ends.
// CHECK-LABEL: tile.kernel @groups
// CHECK: %[[S:.*]] = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: %[[DP:.*]] = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: %[[DONE:.*]] = cta.wait_mma %[[S]] left 1
// CHECK-NEXT: %[[O:.*]] = cta.mma m64k16_bf16 nn async %[[DONE]]
// CHECK-NEXT: %[[REST:.*]]:2 = cta.wait_mma %[[DP]], %[[O]] :
// CHECK-NEXT: cta.store_shared %[[REST]]#1
// CHECK: scf.for
// CHECK: %[[NEXT:.*]] = cta.mma m64k16_bf16 nn async
// CHECK-NEXT: %[[SUM:.*]] = cta.wait_mma %[[NEXT]]
// CHECK-NEXT: scf.yield %[[SUM]]

// Products of one warp are done when they are.
// CHECK-LABEL: tile.kernel @warps
// CHECK-NOT: async
// CHECK-NOT: wait_mma
!tile = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
!shared = !cta.shared<64x64xbf16, #cta.swizzled>
!padded = !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
module @t {
  tile.kernel @groups grid head schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32):
    %x = cta.alloc : !shared
    %y = cta.alloc : !shared
    %s = cta.mma m64k16_bf16 nt %x, %y : !shared, !shared -> !tile
    %dp = cta.mma m64k16_bf16 nt %y, %x : !shared, !shared -> !tile
    %o = cta.mma m64k16_bf16 nn %s, %x : !tile, !shared -> !tile
    cta.store_shared %o, %y : !tile, !shared
    %from = arith.constant 0 : i64
    %to = arith.constant 4 : i64
    %one = arith.constant 1 : i64
    %sum = scf.for %at = %from to %to step %one iter_args(%acc = %o) -> (!tile) : i64 {
      %next = cta.mma m64k16_bf16 nn %dp, %x add %acc : !tile : !tile, !shared -> !tile
      scf.yield %next : !tile
    }
  }

  tile.kernel @warps grid head schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32):
    %x = cta.alloc : !padded
    %s = cta.mma m16n8k16_bf16 nt %x, %x : !padded, !padded -> !tile
    %o = cta.mma m16n8k16_bf16 nn %s, %x : !tile, !padded -> !tile
  }
}
