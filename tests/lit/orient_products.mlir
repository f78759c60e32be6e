// RUN: weft-opt %s --orient-products | FileCheck %s

// Everything that the pairs give is summed over queries: products and pairs are turned, and the products that sum up take
// their left sides as they are.
// CHECK-LABEL: tile.kernel @turned
// CHECK: %[[K:.*]] = tile.load @k
// CHECK: %[[Q:.*]] = tile.load @q
// CHECK: %[[LSE:.*]] = tile.load_rows @lse
// CHECK: %[[S:.*]] = tile.dot nt %[[K]], %[[Q]] : tensor<32x16xf32>, tensor<64x16xf32> -> tensor<32x64xf32>
// CHECK: %[[P:.*]] = tile.pairwise at{{.*}} full {{.*}} transposed tiles(%[[S]] : tensor<32x64xf32>) rows(%[[LSE]] : tensor<64xf32>) reduce () -> tensor<32x64xf32>
// CHECK: tile.dot nn %[[P]], %[[Q]] add {{.*}} : tensor<32x64xf32>, tensor<64x16xf32> -> tensor<32x16xf32>
// Sums over keys in memory go with it.
// CHECK: tile.dot_into tn %[[P]], %[[K]] atomic into @dq{{.*}} : tensor<32x64xf32>, tensor<32x16xf32>

// A sum over keys, and a tile that is multiplied from the other side, keep pairs as they are.
// CHECK-LABEL: tile.kernel @kept
// CHECK-NOT: transposed
// CHECK: tile.dot tn
module @t {
  tile.kernel @turned grid key schedule<q = 64, k = 32> {
  ^bb0(%b: i32, %g: i32, %kt: i32):
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @lse : f32 ["B", "H", "T"] row
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    tile.tensor @dq : f32 ["B", "H", "T", "D"] gradient strided
    tile.tensor @band : i32 [] plan
    %k = tile.load @k[%b, %g] key rows %kt : tensor<32x16xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill key %zero : tensor<32x16xf32>
    %sum = tile.for kept_queries [%b, %g] of %kt kept [@band] init(%start : tensor<32x16xf32>) -> tensor<32x16xf32> {
    ^bb0(%qt: i32, %full: i1, %acc: tensor<32x16xf32>):
      %q = tile.load @q[%b, %g] query rows %qt : tensor<64x16xf32>
      %lse = tile.load_rows @lse[%b, %g] rows %qt fill 1.0 : tensor<64xf32>
      %s = tile.dot nt %q, %k : tensor<64x16xf32>, tensor<32x16xf32> -> tensor<64x32xf32>
      %p = tile.pairwise at [%b, %g, %qt, %kt] full %full tiles(%s : tensor<64x32xf32>) rows(%lse : tensor<64xf32>)
          reduce() -> tensor<64x32xf32> {
      ^bb1(%i: i32, %j: i32, %x: f32, %y: f32):
        %z = arith.subf %x, %y : f32
        tile.result %z : f32
      }
      %next = tile.dot tn %p, %q add %acc : tensor<32x16xf32> : tensor<64x32xf32>, tensor<64x16xf32> -> tensor<32x16xf32>
      tile.dot_into nn %p, %k atomic into @dq[%b, %g] rows %qt : tensor<64x32xf32>, tensor<32x16xf32>
      tile.yield %next : tensor<32x16xf32>
    }
    tile.store %sum, @dk[%b, %g] rows %kt : tensor<32x16xf32>
  }

  tile.kernel @kept grid key schedule<q = 64, k = 32> {
  ^bb0(%b: i32, %g: i32, %kt: i32):
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    tile.tensor @dq : f32 ["B", "H", "T", "D"] gradient strided
    tile.tensor @most : f32 ["B", "H", "T"] row
    %k = tile.load @k[%b, %g] key rows %kt : tensor<32x16xf32>
    %q = tile.load @q[%b, %g] query rows %kt : tensor<64x16xf32>
    %s = tile.dot nt %q, %k : tensor<64x16xf32>, tensor<32x16xf32> -> tensor<64x32xf32>
    %p, %m = tile.pairwise at [%b, %g, %kt, %kt] tiles(%s : tensor<64x32xf32>) rows() reduce(max)
        -> tensor<64x32xf32>, tensor<64xf32> {
    ^bb1(%i: i32, %j: i32, %x: f32):
      tile.result %x, %x : f32, f32
    }
    tile.store_rows %m, @most[%b, %g] rows %kt : tensor<64xf32>
    %first = tile.dot tn %p, %q : tensor<64x32xf32>, tensor<64x16xf32> -> tensor<32x16xf32>
    tile.store %first, @dk[%b, %g] rows %kt : tensor<32x16xf32>
    %t = tile.dot nt %q, %k : tensor<64x16xf32>, tensor<32x16xf32> -> tensor<64x32xf32>
    %d = tile.pairwise at [%b, %g, %kt, %kt] tiles(%t : tensor<64x32xf32>) rows() reduce() -> tensor<64x32xf32> {
    ^bb1(%i: i32, %j: i32, %x: f32):
      tile.result %x : f32
    }
    %second = tile.dot tn %d, %q : tensor<64x32xf32>, tensor<64x16xf32> -> tensor<32x16xf32>
    %third = tile.dot nn %d, %k : tensor<64x32xf32>, tensor<32x16xf32> -> tensor<64x16xf32>
    tile.store %second, @dk[%b, %g] rows %kt : tensor<32x16xf32>
    tile.store %third, @dq[%b, %g] rows %kt : tensor<64x16xf32>
  }
}
