// RUN: weft-opt %s --choose-products=cpu=haswell | FileCheck %s --check-prefixes=CHECK,FMA
// RUN: weft-opt %s --choose-products=cpu=sapphirerapids | FileCheck %s --check-prefixes=CHECK,AMX
// RUN: weft-opt %s --choose-products=cpu=znver5 | FileCheck %s --check-prefixes=CHECK,PAIRS
// RUN: weft-opt %s --choose-products=cpu=neoverse-n2 | FileCheck %s --check-prefixes=CHECK,PAIRS
// RUN: weft-opt %s --choose-products=cpu=neoverse-n1 | FileCheck %s --check-prefixes=CHECK,FMA
// RUN: weft-opt %s --choose-products="cpu=sapphirerapids block-rows=1" | FileCheck %s --check-prefixes=BYROW

// Few queries go through the keys one by one, but in kernels that sum over queries.
// BYROW-LABEL: tile.kernel @whole
// BYROW: cpu.product amx nt
// BYROW-LABEL: tile.kernel @few
// BYROW: cpu.product by_row nt
// BYROW-LABEL: tile.kernel @f32
// BYROW: cpu.product by_row nt

// bf16 in whole registers: AMX where the CPU has it, else pairs where it multiplies them.
// CHECK-LABEL: tile.kernel @whole
// CHECK: %[[Q:.*]] = tile.load
// FMA: %[[S:.*]] = cpu.product fma nt blocked %[[Q]], %[[Q]] : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
// AMX: %[[S:.*]] = cpu.product amx nt blocked %[[Q]], %[[Q]] : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
// PAIRS: %[[S:.*]] = cpu.product pairs nt blocked %[[Q]], %[[Q]] : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
// FMA: cpu.product fma nn %[[S]], %[[Q]] add %{{.*}} : tensor<64x64xf32> :
// AMX: cpu.product amx nn %[[S]], %[[Q]] add %{{.*}} : tensor<64x64xf32> :
// PAIRS: cpu.product pairs nn %[[S]], %[[Q]] add %{{.*}} : tensor<64x64xf32> :
// FMA: cpu.product_into fma tn %[[S]], %[[Q]] into @dk[%{{.*}}, %{{.*}}] rows
// AMX: cpu.product_into amx tn %[[S]], %[[Q]] into @dk[%{{.*}}, %{{.*}}] rows
// PAIRS: cpu.product_into pairs tn %[[S]], %[[Q]] into @dk[%{{.*}}, %{{.*}}] rows
// CHECK-NOT: tile.dot
module @t {
  tile.kernel @whole grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @dk : f32 ["B", "H", "S", "D"] gradient strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>
    %zero = arith.constant 0.0 : f32
    %start = tile.fill query %zero : tensor<64x64xf32>
    %s = tile.dot nt blocked %q, %q : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    %o = tile.dot nn %s, %q add %start : tensor<64x64xf32> : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
    tile.dot_into tn %s, %q into @dk[%b, %h] rows %qt : tensor<64x64xf32>, tensor<64x64xf32>
  }

  // Tiles of 16 queries fill vector registers alone.
  // CHECK-LABEL: tile.kernel @few
  // FMA: cpu.product fma nt
  // AMX: cpu.product fma nt
  // PAIRS: cpu.product pairs nt
  tile.kernel @few grid query schedule<q = 16, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    tile.tensor @k : bf16 ["B", "H", "S", "D"] operand strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<16x64xf32>
    %k = tile.load @k[%b, %h] key rows %qt : tensor<64x64xf32>
    %s = tile.dot nt %q, %k : tensor<16x64xf32>, tensor<64x64xf32> -> tensor<16x64xf32>
  }

  // f32, tiles of 48, or rows of 40 do not fill them.
  // CHECK-LABEL: tile.kernel @f32
  // CHECK: cpu.product fma nt
  tile.kernel @f32 grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : f32 ["B", "H", "T", "D"] operand strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>
    %s = tile.dot nt %q, %q : tensor<64x64xf32>, tensor<64x64xf32> -> tensor<64x64xf32>
  }
  // CHECK-LABEL: tile.kernel @tiles
  // CHECK: cpu.product fma nt
  tile.kernel @tiles grid query schedule<q = 48, k = 48> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<48x64xf32>
    %s = tile.dot nt %q, %q : tensor<48x64xf32>, tensor<48x64xf32> -> tensor<48x48xf32>
  }
  // CHECK-LABEL: tile.kernel @rows
  // CHECK: cpu.product fma nt
  tile.kernel @rows grid query schedule<q = 64, k = 64> {
  ^bb0(%b: i32, %h: i32, %qt: i32):
    tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
    %q = tile.load @q[%b, %h] query rows %qt : tensor<64x40xf32>
    %s = tile.dot nt %q, %q : tensor<64x40xf32>, tensor<64x40xf32> -> tensor<64x64xf32>
  }
}
