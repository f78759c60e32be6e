// RUN: weft-opt %s --loop-invariant-code-motion --place-operands=stages=3 | FileCheck %s

// The key tile of the program stays; the query tiles of the loop over kept tiles stream by, three deep.
// CHECK-LABEL: tile.kernel @t
// CHECK: tile.load @k{{.*}} place shared
// CHECK: tile.for kept_queries
// CHECK: tile.load @q{{.*}} place stream stages 3
module @t {
  tile.kernel @t grid key schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %g: i32, %kt: i32):
    tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    tile.for kept_queries [%b, %g] of %kt {
    ^bb0(%qt: i32, %full: i1):
      %k = tile.load @k[%b, %g] key rows %kt : tensor<64x64xf32>
      %q = tile.load @q[%b, %g] query rows %qt : tensor<64x64xf32>
      %s = tile.dot nt %q, %k : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
      tile.dot_into tn %s, %q into @dk[%b, %g] rows %kt : tensor<64x64xf32>, tensor<64x64xf32>
      tile.yield
    }
  }

  // CHECK-LABEL: tile.kernel @delta
  // CHECK: tile.load @do{{.*}} place global
  tile.kernel @delta grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @do : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @delta : f32 ["B", "H", "T"] row
    %x = tile.load @do[%b, %h] query rows %qt : tensor<64x64xf32>
    %s = tile.row_dot %x, %x : tensor<64x64xf32> -> tensor<64xf32>
    tile.store_rows %s, @delta[%b, %h] rows %qt : tensor<64xf32>
  }
}
