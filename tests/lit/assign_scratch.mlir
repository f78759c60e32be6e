// RUN: weft-opt %s --assign-scratch=cpu=haswell | FileCheck %s

// What a loop carries lives as long as the loop, and the product lies where its accumulator lay. Logits die with the
// product that reads them: the rows that come after lie there.
// CHECK-LABEL: tile.kernel @carried
// CHECK-SAME: cpu.scratch_bytes = 3136
// CHECK: cpu.pack {{.*}}cpu.places = array<i64: 0>
// CHECK: tile.fill {{.*}}cpu.places = array<i64: 1024>
// CHECK: tile.for
// CHECK-NOT: cpu.places
// CHECK: cpu.view
// CHECK: cpu.product fma nt {{.*}}cpu.places = array<i64: 2048>
// CHECK: cpu.product fma nn {{.*}}cpu.places = array<i64: 1024>
// CHECK: tile.fill {{.*}}cpu.places = array<i64: 2048>
// CHECK: tile.fill {{.*}}cpu.places = array<i64: 3072>
// CHECK: tile.scale_rows {{.*}}cpu.places = array<i64: 2048>
!lanes = tensor<16x16xf32, #cpu.layout<columns>>
!rows = tensor<16x16xf32, #cpu.layout<strided>>
module @t {
  tile.kernel @carried grid query schedule<q = 16, k = 16> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : f32 ["B", "H", "S", "D"] operand strided
    tile.tensor @o : f32 ["B", "H", "T", "D"] result strided
    tile.tensor @band : i32 [] plan
    %0 = cpu.view @q[%b, %h] rows %qt : !rows
    %q = cpu.pack %0 : !rows -> !lanes
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : !lanes
    %sum = tile.for keys [%b, %h] of %qt kept [@band] init(%start : !lanes) -> !lanes {
    ^bb0(%kt: i32, %full: i1, %acc: !lanes):
      %k = cpu.view @k[%b, %h] rows %kt : !rows
      %s = cpu.product fma nt %q, %k : !lanes, !rows -> !lanes
      %next = cpu.product fma nn %s, %k add %acc : !lanes : !lanes, !rows -> !lanes
      %r = tile.fill query %zero : !lanes
      %f = tile.fill query %zero : tensor<16xf32>
      %x = tile.scale_rows %r by %f : !lanes, tensor<16xf32>
      tile.store %x, @o[%b, %h] rows %kt : !lanes
      tile.yield %next : !lanes
    }
    tile.store %sum, @o[%b, %h] rows %qt : !lanes
  }

  // A tile that a pairwise program is the last to read gives its place to the result. Rows of 12 are stored in whole
  // registers of 8.
  // CHECK-LABEL: tile.kernel @pairs
  // CHECK-SAME: cpu.scratch_bytes = 2048
  // CHECK: tile.fill {{.*}}cpu.places = array<i64: 0>
  // CHECK: tile.fill {{.*}}cpu.places = array<i64: 1024>
  // CHECK: cpu.places = array<i64: 0, 1024>
  tile.kernel @pairs grid query schedule<q = 16, k = 16> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @o : f32 ["B", "H", "T", "D"] result strided
    %zero = arith.constant 0.0 : f32
    %x = tile.fill query %zero : !lanes
    %last = tile.fill query %zero : tensor<16x12xf32, #cpu.layout<columns>>
    tile.store %last, @o[%b, %h] rows %qt : tensor<16x12xf32, #cpu.layout<columns>>
    %y:2 = tile.pairwise at [%b, %h, %qt, %qt] tiles(%x : !lanes) rows() reduce(max) -> !lanes, tensor<16xf32> {
    ^bb0(%i: i32, %j: i32, %own: f32):
      tile.result %own, %own : f32, f32
    }
    tile.store %y#0, @o[%b, %h] rows %qt : !lanes
    tile.store_rows %y#1, @o[%b, %h] rows %qt : tensor<16xf32>
  }

  // Rows that need no pad stay where they were gathered, until the pad's last use: the next ones lie elsewhere.
  // CHECK-LABEL: tile.kernel @gathered
  // CHECK: cpu.pack {{.*}}cpu.places = array<i64: 0>
  // CHECK: cpu.gather @k{{.*}}cpu.places = array<i64: 2048>
  // CHECK: cpu.pad {{.*}}cpu.places = array<i64: 4096>
  // CHECK: cpu.gather @v{{.*}}cpu.places = array<i64: 6144>
  tile.kernel @gathered grid query schedule<q = 32, k = 32> listed <@keys, "N", 0> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @v : bf16 ["B", "H", "S", "D"] operand strided
    tile.tensor @keys : i32 ["B", "H", "N"] parameter
    tile.tensor @o : f32 ["B", "H", "T", "D"] result strided
    %0 = cpu.view @q[%b, %h] rows %qt : tensor<32x32xbf16, #cpu.layout<strided>>
    %q = cpu.pack %0 : tensor<32x32xbf16, #cpu.layout<strided>> -> tensor<32x32xbf16, #cpu.layout<column_pairs>>
    %1 = cpu.gather @k[%b, %h] rows %qt : tensor<32x32xbf16, #cpu.layout<rows>>
    %k = cpu.pad %1 : tensor<32x32xbf16, #cpu.layout<rows>> -> tensor<32x32xbf16, #cpu.layout<strided>>
    %2 = cpu.gather @v[%b, %h] rows %qt : tensor<32x32xbf16, #cpu.layout<rows>>
    %v = cpu.convert %2 : tensor<32x32xbf16, #cpu.layout<rows>> -> tensor<32x32xf32, #cpu.layout<rows>>
    %s = cpu.product amx nt %q, %k : tensor<32x32xbf16, #cpu.layout<column_pairs>>, tensor<32x32xbf16, #cpu.layout<strided>> -> tensor<32x32xf32, #cpu.layout<columns>>
    %r = tile.row_dot %v, %v : tensor<32x32xf32, #cpu.layout<rows>> -> tensor<32xf32>
    tile.store %s, @o[%b, %h] rows %qt : tensor<32x32xf32, #cpu.layout<columns>>
    tile.store_rows %r, @o[%b, %h] rows %qt : tensor<32xf32>
  }
}
