// A printed kernel is all that a target needs: it is parsed and lowered with nothing else beside it.
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32 type=bf16" | FileCheck %s --check-prefix=KERNEL
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32 type=bf16" | weft-opt --expand-functions --loop-invariant-code-motion --choose-instructions --pipeline-loads --allocate-shared --insert-barriers --lower-to-nvvm | FileCheck %s --check-prefix=GPU
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32 paged=true" | weft-opt --expand-functions --choose-products=cpu=haswell --pack-operands --assign-scratch=cpu=haswell --lower-to-cpu=cpu=haswell | FileCheck %s --check-prefix=CPU

// KERNEL-LABEL: tile.kernel @t.forward grid query
// KERNEL-DAG: tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided
// KERNEL-DAG: tile.tensor @period : f32 ["H"] parameter
// KERNEL-DAG: tile.tensor @band : i32 [] plan
// KERNEL-DAG: tile.tensor @status : i32 [] control
// KERNEL-DAG: tile.tensor @o : bf16 ["B", "H", "T", "E"] result strided
// KERNEL-DAG: tile.tensor @lse : f32 ["B", "H", "T"] row
// KERNEL: tile.for keys{{.*}} kept [@band]
// KERNEL: weft.read @period
// KERNEL-NOT: weft.pairwise

// GPU: llvm.func @weft_t_forward
// GPU-SAME: weft.image = {{.*}}grid = "query"{{.*}}"pointer q"{{.*}}"pointer band"

// CPU: func.func @weft_t_forward
// CPU-SAME: "dim page"
// CPU-SAME: "pointer pages"
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}, {name = "period", dims = ["H"], element = "float"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %d = weft.dot @q, @k
    %p = weft.read @period[%h] : f32
    %s = weft.map Mul %d, %p : (f32, f32) -> f32
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
