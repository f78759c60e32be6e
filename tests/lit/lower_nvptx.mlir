// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16 type=bf16" --expand-functions --loop-invariant-code-motion --choose-instructions --pipeline-loads=stages=3 --allocate-shared --insert-barriers --lower-to-nvvm | FileCheck %s
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16 type=bf16" --expand-functions --loop-invariant-code-motion --choose-instructions=warpgroups=true --pipeline-loads=stages=3 --overlap-products --allocate-shared --insert-barriers --lower-to-nvvm | FileCheck %s --check-prefix=WGMMA

// Operands come by cp.async; the key side three tiles deep: two are on their way while one is used.
// CHECK: llvm.mlir.global external @weft_shared() {addr_space = 3
// CHECK-LABEL: llvm.func @weft_t_forward
// CHECK-SAME: llvm.byval
// CHECK-SAME: nvvm.kernel
// CHECK-SAME: nvvm.reqntid = array<i32: 128>
// CHECK: nvvm.cp.async.shared.global {{.*}}, 16, cache = cg
// CHECK: nvvm.cp.async.wait.group 0
// CHECK: scf.for
// CHECK: nvvm.cp.async.wait.group 1
// CHECK: nvvm.barrier
// CHECK: nvvm.cp.async.shared.global
// CHECK: nvvm.cp.async.commit.group
// q k': 4 steps of 16 by 8 tiles of 8 keys.
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<row>, num = 4
// CHECK-COUNT-32: nvvm.mma.sync
// The row maxima over the four threads of a row.
// CHECK: nvvm.shfl.sync bfly
// p v: p from registers, v transposed on the way; 4 steps by 4 tiles of 8 columns.
// CHECK: nvvm.convert.f32x2.to.bf16x2
// CHECK: nvvm.ldmatrix {{.*}}layout = #nvvm.mma_layout<col>, num = 4
// CHECK-COUNT-16: nvvm.mma.sync
// CHECK-NOT: nvvm.mma.sync
// CHECK-NOT: llvm.call_intrinsic
// The same for warpgroups: 64 rows by 64 keys in four steps of 16; p from registers, v transposed (D = 32: one panel).
// WGMMA: llvm.mlir.global external @weft_shared() {addr_space = 3 : i32, alignment = 1024
// WGMMA: nvvm.reqntid = array<i32: 128>
// WGMMA: nvvm.cp.async.shared.global
// WGMMA: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
// WGMMA-NEXT: nvvm.barrier
// WGMMA: llvm.inline_asm has_side_effects {{.*}}wgmma.fence.sync.aligned;{{.*}}wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {{.*}}, a, b, p, 1, 1, 0, 0;{{.*}}wgmma.commit_group.sync.aligned;
// WGMMA: llvm.inline_asm has_side_effects {{.*}}wgmma.wait_group.sync.aligned 0;
// WGMMA: wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {{.*}}, b, p, 1, 1, 1;
// WGMMA-NOT: nvvm.mma.sync
// WGMMA-NOT: nvvm.ldmatrix
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
