// RUN: weft-opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{(C1) expected four i32 arguments b, h, i, j}}
weft.pairwise @short {
^bb0(%b: i32):
  weft.yield []
}

// -----

weft.pairwise @names {
^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
  // expected-error @+1 {{(C1) expected 1 values, got 0}}
  weft.yield ["score"]
}

// -----

weft.pairwise @function {
^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
  // expected-error @+1 {{expected a function of the language, got Cosine}}
  %x = weft.map Cosine %b : (i32) -> i32
  weft.yield []
}

// -----

weft.pairwise @arity {
^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
  // expected-error @+1 {{(C1) expected 3 operands, got 1}}
  %x = weft.map Clamp %b : (i32) -> i32
  weft.yield []
}

// -----

weft.pairwise @row {
^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
  // expected-error @+1 {{(C1) expected a row of a normaliser, got "sum"}}
  %x = weft.row "sum"
  weft.yield []
}

// -----

// expected-error @+1 {{expected string or keyword containing one of the following enum values for attribute 'grid' [query, key, head_key, group, head]}}
tile.kernel @grid grid diagonal schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
}

// -----

// expected-error @+1 {{(C1) expected 3 arguments, got 2}}
tile.kernel @arguments grid query schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
}

// -----

// expected-error @+1 {{(C2) expected positive tile sizes, got 0 and 64}}
tile.kernel @tiles grid head schedule <q = 0, k = 64> {
^bb0(%b: i32, %h: i32):
}

// -----

tile.kernel @over grid head schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  // expected-error @+1 {{expected string or keyword containing one of the following enum values for attribute 'over' [heads, queries, keys, keys_descending, kept_queries, turns, positions]}}
  tile.for rows[%b, %h] of %h {
  ^bb1(%x: i32):
    tile.yield
  }
}

// -----

tile.kernel @turns grid head schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  // expected-error @+1 {{(C2) expected a constant number of turns}}
  tile.for turns[%b, %h] of %h {
  ^bb1(%x: i32):
    tile.yield
  }
}

// -----

tile.kernel @carried grid head schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  %zero = arith.constant 0.0 : f32
  %acc = tile.fill query %zero : tensor<64x16xf32>
  // expected-error @+1 {{(C1) expected results, inits and carried arguments of the same types}}
  %r = tile.for queries[%b, %h] of %h init(%acc : tensor<64x16xf32>) -> tensor<64x16xf32> {
  ^bb1(%x: i32):
    tile.yield
  }
}

// -----

tile.kernel @dot grid head schedule <q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  %q = tile.load @q[%b, %h] query rows %h : tensor<64x16xf32>
  %k = tile.load @k[%b, %h] key rows %h : tensor<64x32xf32>
  // expected-error @+1 {{(C1) expected shapes that fit form nt}}
  %s = tile.dot nt %q, %k : tensor<64x16xf32>, tensor<64x32xf32> -> tensor<64x64xf32>
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  %q = tile.load @q[%b, %h] query rows %h : tensor<16x16xf32>
  // expected-error@+1 {{expected string or keyword containing one of the following enum values for attribute 'side' [after, before]}}
  %s, %t = tile.scan_sum beside %q at %h : tensor<16x16xf32>, tensor<16xf32>
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  // expected-error@+1 {{(C1) expected a positive width}}
  tile.flat_dots @row[%b] up_to 1 given %t, @block[%h] of 32 width 0 count %t to @workspace[%t] stride %t
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  // expected-error@+1 {{(C2) expected 1 to 8 rows, got 9}}
  tile.flat_dots @row[%b] up_to 9 given %t, @block[%h] of 32 width 16 count %t to @workspace[%t] stride %t
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  // expected-error@+1 {{expected string or keyword containing one of the following enum values for attribute 'by' [mean, max, min]}}
  tile.pool_rows @q[%b, %h] rows %t to %t by sum width 16 into @pool.0[%t] stride 1
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  // expected-error@+1 {{(C1) expected a positive width and stride}}
  tile.pool_rows @q[%b, %h] rows %t to %t by max width 16 into @pool.0[%t] stride 0
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  // expected-error@+1 {{(C3) expected no reductions of rows: rows are keys here}}
  %p = tile.pairwise at[%b, %h, %b, %b] transposed tiles() rows() reduce (max) -> tensor<16xf32> {
  ^bb1(%i: i32, %j: i32):
    %x = arith.constant 0.0 : f32
    tile.result %x : f32
  }
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  // expected-error@+1 {{expected a reduction, add or max, got mean}}
  %p = tile.pairwise at[%b, %h, %b, %b] tiles() rows() reduce (mean) -> tensor<16xf32> {
  ^bb1(%i: i32, %j: i32):
    tile.result
  }
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
  // expected-error@+1 {{(C3) expected a tensor of the kernel, got @q}}
  %0 = tile.load @q[%b, %h] query rows %b : tensor<16x16xf32>
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc : !cta.shared<2x16x16xbf16, #cta.padded<pitch = 48>>
  // expected-error@+1 {{(C1) expected one of the tiles of '!cta.shared<2x16x16xbf16, #cta.padded<pitch = 48>>'}}
  %y = cta.stage %x[%h] : !cta.shared<2x16x16xbf16, #cta.padded<pitch = 48>> -> !cta.shared<16x32xbf16, #cta.padded<pitch = 48>>
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc : !cta.shared<16x16xf32, #cta.padded<pitch = 80>>
  // expected-error@+1 {{(C3) expected elements of m16n8k16_bf16, got 'f32'}}
  %y = cta.mma m16n8k16_bf16 nt %x, %x : !cta.shared<16x16xf32, #cta.padded<pitch = 80>>, !cta.shared<16x16xf32, #cta.padded<pitch = 80>> -> tensor<16x16xf32>
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc : !cta.shared<16x16xf16, #cta.padded<pitch = 48>>
  // expected-error@+1 {{(C1) expected a left side in registers}}
  %y = cta.mma m16n8k16_f16 nn %x, %x : !cta.shared<16x16xf16, #cta.padded<pitch = 48>>, !cta.shared<16x16xf16, #cta.padded<pitch = 48>> -> tensor<16x16xf32>
}

// -----

tile.kernel @k grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc : !cta.shared<16x16xf16, #cta.padded<pitch = 48>>
  %z = cta.alloc : !cta.shared<16x32xf16, #cta.padded<pitch = 80>>
  // expected-error@+1 {{(C2) expected shapes that fit form nt}}
  %y = cta.mma m16n8k16_f16 nt %x, %z : !cta.shared<16x16xf16, #cta.padded<pitch = 48>>, !cta.shared<16x32xf16, #cta.padded<pitch = 80>> -> tensor<16x16xf32>
}

// -----

// expected-error@+1 {{expected 2 or 3 dims, got 1}}
func.func private @f(!cta.shared<16xf16, #cta.padded<pitch = 48>>)

// -----

func.func @convert(%x: tensor<16x16xbf16, #cpu.layout<strided>>) {
  // expected-error@+1 {{(C1) expected f32 rows of}}
  %y = cpu.convert %x : tensor<16x16xbf16, #cpu.layout<strided>> -> tensor<16x16xf32, #cpu.layout<columns>>
  return
}

// -----

func.func @pack(%x: tensor<16x16xbf16, #cpu.layout<columns>>) {
  // expected-error@+1 {{(C1) expected rows to columns or pairs}}
  %y = cpu.pack %x : tensor<16x16xbf16, #cpu.layout<columns>> -> tensor<16x16xbf16, #cpu.layout<row_pairs>>
  return
}

// -----

func.func @pack(%x: tensor<16x48xbf16, #cpu.layout<strided>>) {
  // expected-error@+1 {{(C2) expected rows and columns that hold}}
  %y = cpu.pack %x : tensor<16x48xbf16, #cpu.layout<strided>> -> tensor<16x32xbf16, #cpu.layout<column_pairs>>
  return
}

// -----

func.func @pad(%x: tensor<16x48xbf16, #cpu.layout<strided>>) {
  // expected-error@+1 {{(C1) expected rows to strided rows}}
  %y = cpu.pad %x : tensor<16x48xbf16, #cpu.layout<strided>> -> tensor<16x64xbf16, #cpu.layout<columns>>
  return
}

// -----

func.func @pad(%x: tensor<16x48xbf16, #cpu.layout<strided>>) {
  // expected-error@+1 {{(C2) expected rows and columns that hold}}
  %y = cpu.pad %x : tensor<16x48xbf16, #cpu.layout<strided>> -> tensor<32x64xbf16, #cpu.layout<strided>>
  return
}

// -----

func.func @round(%x: tensor<32x32xf32, #cpu.layout<columns>>, %k: tensor<32x32xbf16, #cpu.layout<columns>>) {
  // expected-error@+1 {{(C1) expected f32 columns to bf16 columns or column pairs}}
  %y = cpu.round %x to_end_of %k : tensor<32x32xf32, #cpu.layout<columns>>, tensor<32x32xbf16, #cpu.layout<columns>> -> tensor<32x32xbf16, #cpu.layout<row_pairs>>
  return
}

// -----

func.func @product(%x: tensor<16x32xf32>, %k: tensor<16x16xf32>) {
  // expected-error@+1 {{(C1) expected shapes that fit form nt}}
  %y = cpu.product fma nt %x, %k : tensor<16x32xf32>, tensor<16x16xf32> -> tensor<16x16xf32>
  return
}

// -----

func.func @product(%x: tensor<16x16xf32, #cpu.layout<columns>>, %k: tensor<16x16xf32, #cpu.layout<columns>>) {
  // expected-error@+1 {{(C2) expected what fma nt takes}}
  %y = cpu.product fma nt %x, %k : tensor<16x16xf32, #cpu.layout<columns>>, tensor<16x16xf32, #cpu.layout<columns>> -> tensor<16x16xf32, #cpu.layout<columns>>
  return
}

// -----

tile.kernel @into grid head schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32):
  tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
  %x = cpu.empty : tensor<16x16xf32, #cpu.layout<columns>>
  %q = cpu.empty : tensor<16x16xbf16, #cpu.layout<row_pairs>>
  // expected-error@+1 {{(C1) expected what amx tn takes}}
  cpu.product_into amx tn %x, %q into @dk[%b, %h] rows %h : tensor<16x16xf32, #cpu.layout<columns>>, tensor<16x16xbf16, #cpu.layout<row_pairs>>
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  %z = arith.constant 0.0 : f32
  %x = tile.fill query %z : tensor<16x16xf32>
  %f = tile.fill query %z : tensor<32xf32>
  // expected-error@+1 {{(C1) expected a factor for each row}}
  %y = tile.scale_rows %x by %f : tensor<16x16xf32>, tensor<32xf32>
}

// -----

tile.kernel @k grid query schedule<q = 16, k = 16> {
^bb0(%b: i32, %h: i32, %t: i32):
  %z = arith.constant 0.0 : f32
  %x = tile.fill query %z : tensor<16x16xf32>
  %m = tile.fill query %z : tensor<32xf32>
  // expected-error@+1 {{(C1) expected a peak for each row}}
  %y, %c = tile.below_peak %x, %m by %m : tensor<16x16xf32>, tensor<32xf32>
}

// -----

tile.kernel @k grid head schedule<q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc at 0 : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
  // expected-error@+1 {{(C4) expected operands in the layout of m64k16_bf16}}
  %s = cta.mma m64k16_bf16 nt %x, %x : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>, !cta.shared<64x64xbf16, #cta.padded<pitch = 144>> -> tensor<64x64xf32>
}

// -----

tile.kernel @k grid head schedule<q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  // expected-error@+1 {{expected a layout of shared memory, #cta.padded or #cta.swizzled, got 3}}
  %x = cta.alloc at 0 : !cta.shared<64x64xbf16, 3>
}

// -----

tile.kernel @k grid head schedule<q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc at 0 : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>
  // expected-error@+1 {{(C5) expected no async product, got one of m16n8k16_bf16}}
  %s = cta.mma m16n8k16_bf16 nt async %x, %x : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>, !cta.shared<64x64xbf16, #cta.padded<pitch = 144>> -> tensor<64x64xf32>
}

// -----

tile.kernel @k grid head schedule<q = 64, k = 64> {
^bb0(%b: i32, %h: i32):
  %x = cta.alloc at 0 : !cta.shared<64x64xbf16, #cta.swizzled>
  %s = cta.mma m64k16_bf16 nt %x, %x : !cta.shared<64x64xbf16, #cta.swizzled>, !cta.shared<64x64xbf16, #cta.swizzled> -> tensor<64x64xf32>
  // expected-error@+1 {{(C1) expected products that are async}}
  %t = cta.wait_mma %s : tensor<64x64xf32> -> tensor<64x64xf32>
}
