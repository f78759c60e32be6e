// RUN: weft-opt %s --approximate-functions | FileCheck %s
// Exponentials, hyperbolic tangents and marked quotients become approximate instructions of a GPU; others stay.

// CHECK-LABEL: func.func @powers
func.func @powers(%x: f32) -> (f32, f32) {
  // CHECK-NEXT: llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"(%{{.*}})
  %0 = math.exp2 %x : f32
  // The power of two is taken off exactly, in two steps.
  // CHECK: math.fma
  // CHECK-NOT: math.exp
  // CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"
  // CHECK: arith.bitcast
  %1 = math.exp %x : f32
  return %0, %1 : f32, f32
}

// CHECK-LABEL: func.func @tangent
func.func @tangent(%x: f32) -> f32 {
  // CHECK-NOT: math.tanh
  // CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"
  // CHECK: nvvm.rcp.approx.ftz.f
  // CHECK: arith.select
  %0 = math.tanh %x : f32
  return %0 : f32
}

// CHECK-LABEL: func.func @quotients
func.func @quotients(%x: f32, %y: f32) -> (f32, f32) {
  // CHECK: nvvm.rcp.approx.ftz.f
  // CHECK: arith.mulf
  %0 = arith.divf %x, %y {weft.approximate} : f32
  // CHECK: arith.divf
  %1 = arith.divf %x, %y : f32
  return %0, %1 : f32, f32
}
