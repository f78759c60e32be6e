// RUN: weft-opt %s --insert-barriers | FileCheck %s

// What other threads have copied or stored is read after a barrier; what they may still read is overwritten after one.
// One barrier serves all accesses before it.
// CHECK-LABEL: tile.kernel @straight
// CHECK: cta.copy_async
// CHECK-NEXT: cta.copy_async
// CHECK-NEXT: cta.commit_group
// CHECK-NEXT: cta.wait_group 0
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.mma
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.store_shared
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.mma
!tile = tensor<16x16xf32, #cta.mma_sync<warps = 1>>
!shared = !cta.shared<16x16xbf16, #cta.padded<pitch = 48>>
!stages = !cta.shared<2x16x16xbf16, #cta.padded<pitch = 48>>
module @t {
  tile.kernel @straight grid head schedule<q = 16, k = 16> attributes {cta.warps = 1 : i64} {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %x = cta.alloc at 0 : !shared
    %y = cta.alloc at 768 : !shared
    %z = cta.alloc at 0 : !shared
    %0 = cta.copy_async @q[%b, %h] rows %h to %x : !shared
    %1 = cta.copy_async @q[%b, %h] rows %h to %y : !shared
    cta.commit_group of %0, %1
    cta.wait_group 0
    %s = cta.mma m16n8k16_bf16 nt %x, %y : !shared, !shared -> !tile
    cta.store_shared %s, %z : !tile, !shared
    %t = cta.mma m16n8k16_bf16 tn %z, %y : !shared, !shared -> !tile
  }

  // Two stages: one barrier a turn, after the wait, is for the copies that came and for the place of the next one, whose
  // branch it stands before. Of what the loop stores itself, the turn before has read the last: no barrier before it.
  // CHECK-LABEL: tile.kernel @loop
  // CHECK: scf.for
  // CHECK-NOT: cta.barrier
  // CHECK: cta.wait_group 0
  // CHECK: cta.barrier
  // CHECK-NEXT: scf.if
  // CHECK-NOT: cta.barrier
  // CHECK: cta.mma {{.*}} nt
  // CHECK-NEXT: cta.store_shared
  // CHECK-NEXT: cta.barrier
  // CHECK-NEXT: cta.mma {{.*}} tn
  // CHECK-NOT: cta.barrier
  tile.kernel @loop grid head schedule<q = 16, k = 16> attributes {cta.warps = 1 : i64} {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %x = cta.alloc at 0 : !stages
    %p = cta.alloc at 1536 : !shared
    %from = arith.constant 0 : i64
    %to = arith.constant 4 : i64
    %one = arith.constant 1 : i64
    %yes = arith.constant true
    scf.for %at = %from to %to step %one : i64 {
      cta.wait_group 0
      scf.if %yes {
        %next = cta.stage %x[%h] : !stages -> !shared
        %0 = cta.copy_async @q[%b, %h] rows %h to %next : !shared
      }
      cta.commit_group
      %own = cta.stage %x[%b] : !stages -> !shared
      %s = cta.mma m16n8k16_bf16 nt %own, %own : !shared, !shared -> !tile
      cta.store_shared %s, %p : !tile, !shared
      %t = cta.mma m16n8k16_bf16 tn %p, %own : !shared, !shared -> !tile
    }
  }
}

// What products of warpgroups read goes through another proxy: a fence of each thread that wrote, before the barrier.
// CHECK-LABEL: tile.kernel @fence
// CHECK: cta.wait_group 0
// CHECK-NEXT: cta.fence_async
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.mma m64k16_bf16 nt
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.store_shared
// CHECK-NEXT: cta.fence_async
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.mma m64k16_bf16 tn
!group = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
!swizzled = !cta.shared<64x64xbf16, #cta.swizzled>
module @u {
  tile.kernel @fence grid head schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %x = cta.alloc at 0 : !swizzled
    %0 = cta.copy_async @q[%b, %h] rows %h to %x : !swizzled
    cta.commit_group of %0
    cta.wait_group 0
    %s = cta.mma m64k16_bf16 nt %x, %x : !swizzled, !swizzled -> !group
    cta.store_shared %s, %x : !group, !swizzled
    %t = cta.mma m64k16_bf16 tn %x, %x : !swizzled, !swizzled -> !group
  }
}
// A barrier for the second product of a turn stands before the turn.
// CHECK-LABEL: tile.kernel @turn
// CHECK: cta.store_shared
// CHECK-NEXT: cta.fence_async
// CHECK-NEXT: cta.barrier
// CHECK-NEXT: cta.take_turn
// CHECK-NEXT: {{.*}} = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: {{.*}} = cta.mma m64k16_bf16 nt async
// CHECK-NEXT: cta.pass_turn
// CHECK-NEXT: {{.*}} = cta.wait_mma
!tall = tensor<128x64xf32, #cta.mma_sync<warps = 8>>
!high = !cta.shared<128x64xbf16, #cta.swizzled>
module @w {
  tile.kernel @turn grid head schedule<q = 128, k = 64> attributes {cta.warps = 8 : i64} {
  ^bb0(%b: i32, %h: i32):
    %x = cta.alloc at 0 : !high
    %y = cta.alloc at 16384 : !high
    %z = cta.alloc at 32768 : !swizzled
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : !tall
    %from = arith.constant 0 : i64
    %to = arith.constant 4 : i64
    %one = arith.constant 1 : i64
    scf.for %at = %from to %to step %one : i64 {
      cta.store_shared %start, %y : !tall, !high
      cta.take_turn
      %s = cta.mma m64k16_bf16 nt async %x, %z : !high, !swizzled -> !tall
      %t = cta.mma m64k16_bf16 nt async %y, %z : !high, !swizzled -> !tall
      cta.pass_turn
      %both:2 = cta.wait_mma %s, %t : !tall, !tall -> !tall, !tall
    }
  }
}
