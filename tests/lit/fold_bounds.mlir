// RUN: weft-opt %s --fold-bounds | FileCheck %s
// A bound becomes one operation that lets a NaN through; other choices stay.

// CHECK-LABEL: func.func @clamped
// CHECK-SAME: (%[[X:.*]]: f32)
func.func @clamped(%x: f32) -> f32 {
  %low = arith.constant 0.0 : f32
  %high = arith.constant 1.0 : f32
  // CHECK: %[[ABOVE:.*]] = arith.maximumf %[[X]], %cst
  %0 = arith.cmpf olt, %x, %low : f32
  %1 = arith.select %0, %low, %x : f32
  // CHECK: %[[OWN:.*]] = arith.minimumf %[[ABOVE]], %cst_
  %2 = arith.cmpf ogt, %1, %high : f32
  %3 = arith.select %2, %high, %1 : f32
  // CHECK: return %[[OWN]]
  return %3 : f32
}

// A bound that is a NaN counts for nothing.
// CHECK-LABEL: func.func @unknown
// CHECK-NOT: maximumf
func.func @unknown(%x: f32, %low: f32) -> f32 {
  %nan = arith.constant 0x7FC00000 : f32
  %0 = arith.cmpf olt, %x, %low : f32
  %1 = arith.select %0, %low, %x : f32
  %2 = arith.cmpf olt, %1, %nan : f32
  %3 = arith.select %2, %nan, %1 : f32
  return %3 : f32
}

// CHECK-LABEL: func.func @others
func.func @others(%x: f32, %z: f32) -> (f32, f32, f32) {
  %y = arith.constant 1.0 : f32
  // CHECK: arith.select
  %0 = arith.cmpf olt, %x, %y : f32
  %1 = arith.select %0, %x, %y : f32
  // CHECK: arith.select
  %2 = arith.select %0, %y, %z : f32
  // An unordered comparison takes the bound for a NaN.
  // CHECK: arith.select
  %3 = arith.cmpf ult, %x, %y : f32
  %4 = arith.select %3, %y, %x : f32
  return %1, %2, %4 : f32, f32, f32
}
