// RUN: weft-opt %s --take-turns | FileCheck %s

// In a loop a warpgroup starts the products that it waits for later when it is its turn, and passes the turn on behind
// the last; products behind the wait need none, and none do outside of loops.
// CHECK-LABEL: tile.kernel @two
// CHECK: consumers
// CHECK-NOT: turn
// CHECK: scf.for
// CHECK-NEXT: cta.take_turn
// CHECK-NEXT: %[[S:.*]] = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: %[[DP:.*]] = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: cta.pass_turn
// CHECK-NEXT: cta.wait_mma
// CHECK-NEXT: cta.mma m64k16_bf16 nn async
// CHECK-NEXT: cta.wait_mma
// CHECK-NEXT: scf.yield

// One warpgroup has nobody to take turns with.
// CHECK-LABEL: tile.kernel @one
// CHECK-NOT: turn
!tall = tensor<128x64xf32, #cta.mma_sync<warps = 8>>
!tile = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
!own = !cta.shared<128x64xbf16, #cta.swizzled>
!shared = !cta.shared<64x64xbf16, #cta.swizzled>
module @t {
  tile.kernel @two grid head schedule<q = 128, k = 64> attributes {cta.warps = 8 : i64} {
  ^bb0(%b: i32, %h: i32):
    %x = cta.alloc : !own
    %y = cta.alloc : !shared
    cta.roles producer {
      %none = arith.constant 0 : i64
    } consumers {
      %first = cta.mma m64k16_bf16 nt async %x, %y : !own, !shared -> !tall
      %acc = cta.wait_mma %first : !tall -> !tall
      %from = arith.constant 0 : i64
      %to = arith.constant 4 : i64
      %one = arith.constant 1 : i64
      %sum = scf.for %at = %from to %to step %one iter_args(%own = %acc) -> (!tall) : i64 {
        %s = cta.mma m64k16_bf16 nt async %x, %y : !own, !shared -> !tall
        %dp = cta.mma m64k16_bf16 nt async %x, %y : !own, !shared -> !tall
        %both:2 = cta.wait_mma %s, %dp : !tall, !tall -> !tall, !tall
        %next = cta.mma m64k16_bf16 nn async %both#0, %y add %own : !tall : !tall, !shared -> !tall
        %done = cta.wait_mma %next : !tall -> !tall
        scf.yield %done : !tall
      }
    }
  }
  tile.kernel @one grid head schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32):
    %x = cta.alloc : !shared
    %y = cta.alloc : !shared
    cta.roles producer {
      %none = arith.constant 0 : i64
    } consumers {
      %from = arith.constant 0 : i64
      %to = arith.constant 4 : i64
      %one = arith.constant 1 : i64
      scf.for %at = %from to %to step %one : i64 {
        %s = cta.mma m64k16_bf16 nt async %x, %y : !shared, !shared -> !tile
        %done = cta.wait_mma %s : !tile -> !tile
      }
    }
  }
}
