// RUN: weft-opt %s --verify-consumed --split-input-file --verify-diagnostics

// A product's accumulator, the tile that is scaled and what a loop starts with are each used once.
tile.kernel @once grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
  tile.tensor @band : i32 [] plan
  %zero = arith.constant 0.0 : f32
  %start = tile.fill query %zero : tensor<16x16xf32>
  %one = tile.fill query %zero : tensor<16xf32>
  %sum = tile.for keys [%b, %h] of %h kept [@band] init(%start : tensor<16x16xf32>) -> tensor<16x16xf32> {
  ^bb0(%kt: i32, %full: i1, %acc: tensor<16x16xf32>):
    %q = tile.load @q[%b, %h] query rows %kt : tensor<16x16xf32>
    %half = tile.scale %acc by 0.5 : tensor<16x16xf32>
    %scaled = tile.scale_rows %half by %one : tensor<16x16xf32>, tensor<16xf32>
    %next = tile.dot nn %q, %q add %scaled : tensor<16x16xf32> : tensor<16x16xf32>, tensor<16x16xf32> -> tensor<16x16xf32>
    tile.yield %next : tensor<16x16xf32>
  }
  tile.store %sum, @q[%b, %h] rows %h : tensor<16x16xf32>
}

// -----

tile.kernel @twice grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
  %zero = arith.constant 0.0 : f32
  %start = tile.fill query %zero : tensor<16x16xf32>
  %q = tile.load @q[%b, %h] query rows %h : tensor<16x16xf32>
  // expected-error @+1 {{a tile is consumed here that has another use, or another turn}}
  %sum = tile.dot nn %q, %q add %start : tensor<16x16xf32> : tensor<16x16xf32>, tensor<16x16xf32> -> tensor<16x16xf32>
  tile.store %start, @q[%b, %h] rows %h : tensor<16x16xf32>
  tile.store %sum, @q[%b, %h] rows %h : tensor<16x16xf32>
}

// -----

// The second turn would find what the first has made of it.
tile.kernel @turns grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
  %zero = arith.constant 0.0 : f32
  %tile = tile.fill query %zero : tensor<16x16xf32>
  %factors = tile.fill query %zero : tensor<16xf32>
  tile.for queries [%b, %h] of %h {
  ^bb0(%qt: i32):
    // expected-error @+1 {{a tile is consumed here that has another use, or another turn}}
    %scaled = tile.scale_rows %tile by %factors : tensor<16x16xf32>, tensor<16xf32>
    tile.store %scaled, @q[%b, %h] rows %qt : tensor<16x16xf32>
    tile.yield
  }
}

// -----

tile.kernel @starts grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
  %zero = arith.constant 0.0 : f32
  %start = tile.fill query %zero : tensor<16x16xf32>
  // expected-error @+1 {{a tile is consumed here that has another use, or another turn}}
  %x:2 = tile.for queries [%b, %h] of %h init(%start, %start : tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>, tensor<16x16xf32> {
  ^bb0(%qt: i32, %one: tensor<16x16xf32>, %two: tensor<16x16xf32>):
    tile.yield %one, %two : tensor<16x16xf32>, tensor<16x16xf32>
  }
  tile.store %x#0, @q[%b, %h] rows %h : tensor<16x16xf32>
}
