// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16 type=bf16" --expand-functions --loop-invariant-code-motion --place-operands=stages=3 --lower-to-nvvm | FileCheck %s

// Operands come by cp.async; the key side three tiles deep: two are on their way while one is used.
// CHECK: llvm.mlir.global external @weft_shared() {addr_space = 3
// CHECK-LABEL: llvm.func @weft_t_forward
// CHECK-SAME: llvm.byval
// CHECK-SAME: nvvm.kernel
// CHECK-SAME: nvvm.reqntid = array<i32: 128>
// CHECK: "llvm.nvvm.cp.async.cg.shared.global.16.s"
// CHECK: "llvm.nvvm.cp.async.wait.group"
// CHECK: scf.for
// CHECK: "llvm.nvvm.cp.async.wait.group"
// CHECK: "llvm.nvvm.barrier.cta.sync.aligned.all"
// CHECK: "llvm.nvvm.cp.async.cg.shared.global.16.s"
// CHECK: "llvm.nvvm.cp.async.commit.group"
// q k': 4 steps of 16 by 8 tiles of 8 keys.
// CHECK: "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.b16"
// CHECK-COUNT-32: "llvm.nvvm.mma.m16n8k16.row.col.bf16"
// The row maxima over the four threads of a row.
// CHECK: "llvm.nvvm.shfl.sync.bfly.f32"
// p v: p from registers, v transposed on the way; 4 steps by 4 tiles of 8 columns.
// CHECK: "llvm.nvvm.ff2bf16x2.rn"
// CHECK: "llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4.trans.b16"
// CHECK-COUNT-16: "llvm.nvvm.mma.m16n8k16.row.col.bf16"
// CHECK-NOT: "llvm.nvvm.mma
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map "Ge" %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
