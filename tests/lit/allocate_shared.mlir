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

// Swizzled tiles begin at multiples of 1,024 bytes, whatever lies between them; 80 columns of two bytes are two panels.
// CHECK-LABEL: tile.kernel @swizzled
// CHECK-SAME: cta.shared_bytes = 25600
// CHECK: cta.alloc at 0 : <64x80xbf16, #cta.swizzled>
// CHECK: cta.alloc at 16384 : <1x64xf32
// CHECK: cta.alloc at 17408 : <64x64xbf16, #cta.swizzled>
!group = tensor<64x64xf32, #cta.mma_sync<warps = 4>>
!wide = !cta.shared<64x80xbf16, #cta.swizzled>
!square = !cta.shared<64x64xbf16, #cta.swizzled>
!row = !cta.shared<1x64xf32, #cta.padded<pitch = 256>>
module @u {
  tile.kernel @swizzled grid head schedule<q = 64, k = 64> attributes {cta.warps = 4 : i64} {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @lse : f32 ["B", "H", "T"] row
    %x = cta.alloc : !wide
    %0 = cta.copy_async @q[%b, %h] rows %h to %x : !wide
    %y = cta.alloc : !row
    %z = cta.alloc : !square
    %1 = cta.copy_rows_async @lse[%b, %h] rows %h fill 0.0 to %y : !row
    %2 = cta.copy_async @q[%b, %h] rows %h to %z : !square
    cta.commit_group of %0, %1, %2
    cta.wait_group 0
    %s = cta.mma m64k16_bf16 nt %x, %x : !wide, !wide -> !group
    %t = cta.mma m64k16_bf16 nt %z, %z : !square, !square -> !group
  }
}
