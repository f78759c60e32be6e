// RUN: weft-opt %s --loop-invariant-code-motion | FileCheck %s

// The key tile is the same in every turn of both loops; the query tile is not.
// CHECK-LABEL: tile.kernel @t
// CHECK: %[[K:.*]] = tile.load @k
// CHECK: tile.for queries
// CHECK: tile.for kept_queries
// CHECK: %[[Q:.*]] = tile.load @q
// CHECK: tile.dot nt %[[Q]], %[[K]]
module @t {
  tile.kernel @t grid key schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %g: i32, %kt: i32):
    tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    tile.for queries [%b, %g] of %g {
    ^bb0(%outer: i32):
      tile.for kept_queries [%b, %g] of %kt {
      ^bb0(%qt: i32, %full: i1):
        %k = tile.load @k[%b, %g] key rows %kt : tensor<64x64xf32>
        %q = tile.load @q[%b, %g] query rows %qt : tensor<64x64xf32>
        %s = tile.dot nt %q, %k : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
        tile.dot_into tn %s, %q into @dk[%b, %g] rows %kt : tensor<64x64xf32>, tensor<64x64xf32>
        tile.yield
      }
      tile.yield
    }
  }
}
