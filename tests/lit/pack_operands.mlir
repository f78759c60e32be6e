// RUN: weft-opt %s --pack-operands | weft-opt | FileCheck %s

// f32 by FMA: queries are packed for the lanes, keys and values are read from where they are.
// CHECK-LABEL: tile.kernel @fma
// CHECK: %[[Q:.*]] = cpu.view @q[{{.*}}] rows {{.*}} : tensor<64x40xf32, #cpu.layout<strided>>
// CHECK: %[[LANES:.*]] = cpu.pack %[[Q]] : tensor<64x40xf32, #cpu.layout<strided>> -> tensor<64x40xf32, #cpu.layout<columns>>
// CHECK: %[[START:.*]] = tile.fill {{.*}} : tensor<64x40xf32, #cpu.layout<columns>>
// CHECK: tile.for {{.*}} init(%[[START]] : tensor<64x40xf32, #cpu.layout<columns>>) -> tensor<64x40xf32, #cpu.layout<columns>>
// CHECK: %[[K:.*]] = cpu.view @k
// CHECK: %[[S:.*]] = cpu.product fma nt %[[LANES]], %[[K]] : {{.*}} -> tensor<64x64xf32, #cpu.layout<columns>>
// CHECK: cpu.product fma nn %[[S]], %[[K]] add
// CHECK-NOT: tile.load
module @t {
  tile.kernel @fma grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
    tile.tensor @o : f32 ["B", "H", "T", "D"] result strided
    tile.tensor @band : i32 [] plan
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x40xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : tensor<64x40xf32>
    %sum = tile.for keys [%b, %h] of %qt kept [@band] init(%start : tensor<64x40xf32>) -> tensor<64x40xf32> {
    ^bb0(%kt: i32, %full: i1, %acc: tensor<64x40xf32>):
      %k = tile.load @k[%b, %h] key rows %kt : tensor<64x40xf32>
      %s = cpu.product fma nt %q, %k : tensor<64x40xf32>, tensor<64x40xf32> -> tensor<64x64xf32>
      %next = cpu.product fma nn %s, %k add %acc : tensor<64x40xf32> : tensor<64x64xf32>, tensor<64x40xf32> -> tensor<64x40xf32>
      tile.yield %next : tensor<64x40xf32>
    }
    tile.store %sum, @o[%b, %h] rows %qt : tensor<64x40xf32>
  }

  // Other types become f32 once a tile, whatever reads them.
  // CHECK-LABEL: tile.kernel @half
  // CHECK: %[[Q:.*]] = cpu.view @q[{{.*}}] rows {{.*}} : tensor<64x64xf16, #cpu.layout<strided>>
  // CHECK: %[[ROWS:.*]] = cpu.convert %[[Q]] : {{.*}} -> tensor<64x64xf32, #cpu.layout<rows>>
  // CHECK: %[[LANES:.*]] = cpu.pack %[[Q]] : {{.*}} -> tensor<64x64xf32, #cpu.layout<columns>>
  // CHECK: cpu.product fma nt %[[LANES]], %[[ROWS]]
  // CHECK: tile.row_dot %[[ROWS]], %[[ROWS]]
  // CHECK-NOT: cpu.empty
  // CHECK: cpu.product_into fma tn %{{.*}}, %[[ROWS]] into @dk
  tile.kernel @half grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f16 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>
    %s = cpu.product fma nt %q, %q : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %r = tile.row_dot %q, %q : tensor<64x64xf32> -> tensor<64xf32>
    cpu.product_into fma tn %s, %q into @dk[%b, %h] rows %qt : tensor<64x64xf32>, tensor<64x64xf32>
  }

  // Few queries: rows of queries become f32, keys and values stay in their type.
  // CHECK-LABEL: tile.kernel @by_row
  // CHECK: %[[Q:.*]] = cpu.view @q[{{.*}}] rows {{.*}} : tensor<16x64xbf16, #cpu.layout<strided>>
  // CHECK: %[[ROWS:.*]] = cpu.convert %[[Q]] : {{.*}} -> tensor<16x64xf32, #cpu.layout<rows>>
  // CHECK: %[[K:.*]] = cpu.view @k[{{.*}}] rows {{.*}} : tensor<64x64xbf16, #cpu.layout<strided>>
  // CHECK: %[[S:.*]] = cpu.product by_row nt %[[ROWS]], %[[K]] : {{.*}} -> tensor<16x64xf32, #cpu.layout<columns>>
  // CHECK: cpu.product by_row nn %[[S]], %[[K]] : {{.*}} -> tensor<16x64xf32, #cpu.layout<columns>>
  tile.kernel @by_row grid query schedule<q = 16, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<16x64xf32>
    %k = tile.load @k[%b, %h] key rows %qt : tensor<64x64xf32>
    %s = cpu.product by_row nt %q, %k : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
    %o = cpu.product by_row nn %s, %k : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
  }

  // Keys that a list names are gathered, and sums of theirs go by way of memory.
  // CHECK-LABEL: tile.kernel @listed
  // CHECK: %[[K:.*]] = cpu.gather @k[{{.*}}] rows {{.*}} : tensor<64x64xf32, #cpu.layout<rows>>
  // CHECK: %[[S:.*]] = cpu.product fma nt %{{.*}}, %[[K]]
  // CHECK: %[[BY:.*]] = cpu.empty : tensor<64x64xf32, #cpu.layout<rows>>
  // CHECK: cpu.product_into fma tn %[[S]], %{{.*}} by %[[BY]] : {{.*}} into @dk
  tile.kernel @listed grid query schedule<q = 64, k = 64> listed <@keys, "N", 0> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
    tile.tensor @keys : i32 ["B", "H", "N"] parameter
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>
    %k = tile.load @k[%b, %h] key rows %qt : tensor<64x64xf32>
    %s = cpu.product fma nt %q, %k : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    cpu.product_into fma tn %s, %q into @dk[%b, %h] rows %qt : tensor<64x64xf32>, tensor<64x64xf32>
  }

  // AMX: queries in pairs, of columns for q k' and of rows for s' q; keys in whole steps of 32, and transposed for p v;
  // what the kernel computes is rounded.
  // CHECK-LABEL: tile.kernel @amx
  // CHECK: %[[Q:.*]] = cpu.view @q[{{.*}}] rows {{.*}} : tensor<64x80xbf16, #cpu.layout<strided>>
  // CHECK: %[[PAIRS:.*]] = cpu.pack %[[Q]] : {{.*}} -> tensor<64x96xbf16, #cpu.layout<column_pairs>>
  // CHECK: %[[ROWPAIRS:.*]] = cpu.pack %[[Q]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<row_pairs>>
  // CHECK: %[[K:.*]] = cpu.view @k
  // CHECK: %[[WHOLE:.*]] = cpu.pad %[[K]] : {{.*}} -> tensor<64x96xbf16, #cpu.layout<strided>>
  // CHECK: %[[COLUMNS:.*]] = cpu.pack %[[WHOLE]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<columns>>
  // CHECK: %[[S:.*]] = cpu.product amx nt %[[PAIRS]], %[[WHOLE]]
  // CHECK: %[[P:.*]] = cpu.round %[[S]] to_end_of %[[COLUMNS]] : {{.*}} -> tensor<64x64xbf16, #cpu.layout<column_pairs>>
  // CHECK: cpu.product amx nn %[[P]], %[[COLUMNS]] add
  // CHECK: %[[T:.*]] = cpu.round %[[S]] to_end_of %[[ROWPAIRS]] : {{.*}} -> tensor<64x64xbf16, #cpu.layout<columns>>
  // CHECK: %[[BY:.*]] = cpu.empty : tensor<64x80xf32, #cpu.layout<rows>>
  // CHECK: cpu.product_into amx tn %[[T]], %[[ROWPAIRS]] by %[[BY]] : {{.*}} into @dk
  tile.kernel @amx grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x80xf32>
    %k = tile.load @k[%b, %h] key rows %qt : tensor<64x80xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : tensor<64x80xf32>
    %s = cpu.product amx nt %q, %k : tensor<64x80xf32>, tensor<64x80xf32> -> tensor<64x64xf32>
    %o = cpu.product amx nn %s, %k add %start : tensor<64x80xf32> : tensor<64x64xf32>, tensor<64x80xf32> -> tensor<64x80xf32>
    cpu.product_into amx tn %s, %q into @dk[%b, %h] rows %qt : tensor<64x64xf32>, tensor<64x80xf32>
  }

  // Pairs in vector registers: the same, but keys are read from where they are, with no more columns than there are, and
  // sums are added in place.
  // CHECK-LABEL: tile.kernel @pairs
  // CHECK: %[[Q:.*]] = cpu.view @q[{{.*}}] rows {{.*}} : tensor<64x80xbf16, #cpu.layout<strided>>
  // CHECK: %[[PAIRS:.*]] = cpu.pack %[[Q]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<column_pairs>>
  // CHECK: %[[ROWPAIRS:.*]] = cpu.pack %[[Q]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<row_pairs>>
  // CHECK: %[[K:.*]] = cpu.view @k
  // CHECK: %[[WHOLE:.*]] = cpu.pad %[[K]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<strided>>
  // CHECK: %[[COLUMNS:.*]] = cpu.pack %[[WHOLE]] : {{.*}} -> tensor<64x80xbf16, #cpu.layout<columns>>
  // CHECK: %[[S:.*]] = cpu.product pairs nt %[[PAIRS]], %[[K]]
  // CHECK: %[[P:.*]] = cpu.round %[[S]] to_end_of %[[COLUMNS]] : {{.*}} -> tensor<64x64xbf16, #cpu.layout<column_pairs>>
  // CHECK: cpu.product pairs nn %[[P]], %[[COLUMNS]] add
  // CHECK: %[[T:.*]] = cpu.round %[[S]] to_end_of %[[ROWPAIRS]] : {{.*}} -> tensor<64x64xbf16, #cpu.layout<columns>>
  // CHECK-NOT: cpu.empty
  // CHECK: cpu.product_into pairs tn %[[T]], %[[ROWPAIRS]] into @dk
  tile.kernel @pairs grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x80xf32>
    %k = tile.load @k[%b, %h] key rows %qt : tensor<64x80xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : tensor<64x80xf32>
    %s = cpu.product pairs nt %q, %k : tensor<64x80xf32>, tensor<64x80xf32> -> tensor<64x64xf32>
    %o = cpu.product pairs nn %s, %k add %start : tensor<64x80xf32> : tensor<64x64xf32>, tensor<64x80xf32> -> tensor<64x80xf32>
    cpu.product_into pairs tn %s, %q into @dk[%b, %h] rows %qt : tensor<64x64xf32>, tensor<64x80xf32>
  }
}
