// RUN: weft-opt %s --allocate-shared | FileCheck %s

// Two tiles of 16 rows of 48 bytes live at once, then a third takes the place of the first. What an innermost loop
// allocates lives for the whole turn: two of its buffers never share a place, though the second comes after the first's
// last use.
// CHECK-LABEL: tile.kernel @k
// CHECK-SAME: cta.shared_bytes = 2304
// CHECK: %[[A:.*]] = cta.alloc at 0 :
// CHECK: %[[B:.*]] = cta.alloc at 768 :
// CHECK: cta.mma {{.*}} %[[A]], %[[B]]
// CHECK: cta.alloc at 0 :
// CHECK: scf.for
// CHECK: cta.alloc at 768 :
// CHECK: cta.alloc at 1536 :
!tile = tensor<16x16xf32, #cta.mma_sync<warps = 1>>
!shared = !cta.shared<16x16xbf16, #cta.padded<pitch = 48>>
module @t {
  tile.kernel @k grid head schedule<q = 16, k = 16> attributes {cta.warps = 1 : i64} {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %first = cta.alloc : !shared
    %0 = cta.copy_async @q[%b, %h] rows %h to %first : !shared
    %second = cta.alloc : !shared
    %1 = cta.copy_async @q[%b, %h] rows %h to %second : !shared
    cta.commit_group of %0, %1
    cta.wait_group 0
    %s = cta.mma m16n8k16_bf16 nt %first, %second : !shared, !shared -> !tile
    %third = cta.alloc : !shared
    cta.store_shared %s, %third : !tile, !shared
    %from = arith.constant 0 : i64
    %to = arith.constant 4 : i64
    %one = arith.constant 1 : i64
    scf.for %at = %from to %to step %one : i64 {
      %fourth = cta.alloc : !shared
      cta.store_shared %s, %fourth : !tile, !shared
      %x = cta.mma m16n8k16_bf16 tn %fourth, %third : !shared, !shared -> !tile
      %fifth = cta.alloc : !shared
      cta.store_shared %x, %fifth : !tile, !shared
      %y = cta.mma m16n8k16_bf16 tn %fifth, %third : !shared, !shared -> !tile
    }
  }
}
