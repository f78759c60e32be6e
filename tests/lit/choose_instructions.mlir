// RUN: weft-opt %s --choose-instructions | FileCheck %s
// RUN: weft-opt %s --choose-instructions=pairs=true | FileCheck %s --check-prefix=PAIRS
// RUN: weft-opt %s --choose-instructions=warpgroups=true | FileCheck %s --check-prefix=WGMMA

// Products become instructions by the type of their operands; the left side of a tn product goes through shared memory,
// once, whatever reads it.
// CHECK-LABEL: tile.kernel @bf16
// CHECK-SAME: cta.warps = 4
// CHECK: %[[K:.*]] = cta.load @k[{{.*}}] rows {{.*}} : <64x64xbf16, #cta.padded<pitch = 144>>
// CHECK: %[[START:.*]] = tile.fill {{.*}} : tensor<64x64xf32, #cta.mma_sync<warps = 4>>
// CHECK: tile.for kept_queries{{.*}} -> tensor<64x64xf32, #cta.mma_sync<warps = 4>>
// CHECK: %[[Q:.*]] = cta.load @q
// CHECK: %[[S:.*]] = cta.mma m16n8k16_bf16 nt %[[Q]], %[[K]] : !cta.shared
// CHECK: %[[P:.*]] = cta.share %[[S]]
// CHECK: cta.mma m16n8k16_bf16 tn %[[P]], %[[Q]] add
// CHECK: %[[SUM:.*]] = cta.mma m16n8k16_bf16 tn %[[P]], %[[Q]] : !cta.shared
// CHECK: cta.add_rows %[[SUM]] into @dv
// CHECK-NOT: tile.load
// CHECK-NOT: tile.dot
module @t {
  // By a warpgroup: the same in swizzled tiles. 48 rows are no whole blocks of 64, f32 has no such instruction.
  // WGMMA-LABEL: tile.kernel @bf16
  // WGMMA-SAME: cta.warps = 4
  // WGMMA: %[[K:.*]] = cta.load @k{{.*}} : <64x64xbf16, #cta.swizzled>
  // WGMMA: %[[Q:.*]] = cta.load @q
  // WGMMA: %[[S:.*]] = cta.mma m64k16_bf16 nt %[[Q]], %[[K]] : !cta.shared
  // WGMMA: %[[P:.*]] = cta.share %[[S]] {{.*}} -> <64x64xbf16, #cta.swizzled>
  // WGMMA: cta.mma m64k16_bf16 tn %[[P]], %[[Q]] add
  // WGMMA-LABEL: tile.kernel @f32
  // WGMMA: cta.mma m16n8k8_3xtf32 nt
  tile.kernel @bf16 grid key schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %g: i32, %kt: i32):
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    tile.tensor @dv : f32 ["B", "H", "S", "D"] gradient strided
    tile.tensor @band : i32 [] plan
    %k = tile.load @k[%b, %g] key rows %kt : tensor<64x64xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill key %zero : tensor<64x64xf32>
    %sum = tile.for kept_queries [%b, %g] of %kt kept [@band] init(%start : tensor<64x64xf32>) -> tensor<64x64xf32> {
    ^bb0(%qt: i32, %full: i1, %acc: tensor<64x64xf32>):
      %q = tile.load @q[%b, %g] query rows %qt : tensor<64x64xf32>
      %s = tile.dot nt %q, %k : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      %next = tile.dot tn %s, %q add %acc : tensor<64x64xf32> : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      tile.dot_into tn %s, %q into @dv[%b, %g] rows %kt : tensor<64x64xf32>, tensor<64x64xf32>
      tile.yield %next : tensor<64x64xf32>
    }
    tile.store %sum, @dk[%b, %g] rows %kt : tensor<64x64xf32>
  }

  // f32 by three products of tf32; 48 rows are three blocks, one for each of three warps.
  // CHECK-LABEL: tile.kernel @f32
  // CHECK-SAME: cta.warps = 3
  // CHECK: cta.load @q{{.*}} : <48x40xf32, #cta.padded<pitch = 208>>
  // CHECK: cta.mma m16n8k8_3xtf32 nt
  tile.kernel @f32 grid query schedule<q = 48, k = 48> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @o : f32 ["B", "H", "T", "E"] result strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<48x40xf32>
    %s = tile.dot nt %q, %q : tensor<48x40xf32>, tensor<48x40xf32> -> tensor<48x48xf32>
    tile.store %s, @o[%b, %h] rows %qt : tensor<48x48xf32>
  }

  // What is read once is read from where it is.
  // CHECK-LABEL: tile.kernel @delta
  // CHECK-NOT: cta.load
  // CHECK: cta.row_dot @do, @o[{{.*}}] rows {{.*}} columns 64 : tensor<64xf32, #cta.mma_sync<warps = 4>>
  tile.kernel @delta grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @do : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @o : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @delta : f32 ["B", "H", "T"] row
    %x = tile.load @do[%b, %h] query rows %qt : tensor<64x64xf32>
    %y = tile.load @o[%b, %h] query rows %qt : tensor<64x64xf32>
    %s = tile.row_dot %x, %y : tensor<64x64xf32> -> tensor<64xf32>
    tile.store_rows %s, @delta[%b, %h] rows %qt : tensor<64xf32>
  }

  // Numbers of queries lie across a thread's rows of turned tiles: they are in shared memory. The same numbers of a tile
  // that is not turned are in registers.
  // CHECK-LABEL: tile.kernel @rows
  // CHECK: %[[LSE:.*]] = cta.load_rows @lse[{{.*}}] rows {{.*}} fill 1.000000e+00 : <1x64xf32, #cta.padded<pitch = 256>>
  // CHECK: tile.load_rows @delta
  // CHECK: tile.pairwise at{{.*}} transposed tiles({{.*}}) rows(%[[LSE]] : !cta.shared<1x64xf32
  tile.kernel @rows grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @lse : f32 ["B", "H", "T"] row
    tile.tensor @delta : f32 ["B", "H", "T"] row
    tile.tensor @o : f32 ["B", "H", "T", "E"] result strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>
    %s = tile.dot nt %q, %q : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %lse = tile.load_rows @lse[%b, %h] rows %qt fill 1.0 : tensor<64xf32>
    %delta = tile.load_rows @delta[%b, %h] rows %qt fill 0.0 : tensor<64xf32>
    %p = tile.pairwise at [%b, %h, %qt, %qt] transposed tiles(%s : tensor<64x64xf32>) rows(%lse : tensor<64xf32>)
        reduce() -> tensor<64x64xf32> {
    ^bb1(%i: i32, %j: i32, %x: f32, %y: f32):
      tile.result %y : f32
    }
    %t = tile.dot nt %q, %q : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %u = tile.pairwise at [%b, %h, %qt, %qt] tiles(%t : tensor<64x64xf32>) rows(%delta : tensor<64xf32>)
        reduce() -> tensor<64x64xf32> {
    ^bb1(%i: i32, %j: i32, %x: f32, %y: f32):
      tile.result %y : f32
    }
    tile.store %p, @o[%b, %h] rows %qt : tensor<64x64xf32>
    tile.store %u, @o[%b, %h] rows %qt : tensor<64x64xf32>
  }

  // A program without tiles stays what it is.
  // CHECK-LABEL: tile.kernel @scalar
  // CHECK-NOT: cta.warps
  tile.kernel @scalar grid head schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32):
    tile.tensor @band : i32 [] plan
    tile.store_flat %h, @band[%b] : i32
  }

  // Atomic sums are of two neighbours where rows have an even number of them.
  // PAIRS-LABEL: tile.kernel @sums
  // PAIRS: cta.add_rows {{.*}} atomic pairs into @dq
  // PAIRS: cta.add_rows {{.*}} atomic into @du
  // CHECK-LABEL: tile.kernel @sums
  // CHECK-SAME: cta.warps = 2
  // CHECK: cta.add_rows {{.*}} atomic into @dq{{.*}} : tensor<32x64xf32,
  tile.kernel @sums grid key schedule<q = 32, k = 64> {
  ^bb0(%b: i32, %h: i32, %kt: i32):
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @w : bf16 ["B", "H", "S", "R"] operand strided
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @dq : f32 ["B", "H", "T", "D"] gradient strided
    tile.tensor @du : f32 ["B", "H", "T", "R"] gradient strided
    %k = tile.load @k[%b, %h] key rows %kt : tensor<64x64xf32>
    %w = tile.load @w[%b, %h] key rows %kt : tensor<64x15xf32>
    %q = tile.load @q[%b, %h] query rows %kt : tensor<32x64xf32>
    %s = tile.dot nt %k, %q : tensor<64x64xf32>, tensor<32x64xf32> -> tensor<64x32xf32>
    tile.dot_into tn %s, %k atomic into @dq[%b, %h] rows %kt : tensor<64x32xf32>, tensor<64x64xf32>
    tile.dot_into tn %s, %w atomic into @du[%b, %h] rows %kt : tensor<64x32xf32>, tensor<64x15xf32>
  }
}
