// RUN: weft-opt %s --build-kernel="kernel=plan_lists dims=D=64,E=32,R=16" | FileCheck %s
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" --expand-functions --loop-invariant-code-motion --choose-instructions --pipeline-loads=stages=3 --allocate-shared --insert-barriers --lower-to-nvvm | FileCheck %s --check-prefix=GPU

// What a tile of a list may meet follows from the least and the greatest position in it.
// CHECK-LABEL: tile.kernel @t.plan_lists grid query
// CHECK: weft.dim "N"
// CHECK: tile.read_range @list axis 2
// CHECK: tile.append %{{.*}} to @entries

// Rows are gathered as they are copied: each address follows from an entry of the list.
// GPU: llvm.func @weft_t_forward
// GPU: llvm.load %{{.*}} : !llvm.ptr<1> -> i32
// GPU: nvvm.cp.async
module @t attributes {weft.normalize = "softmax", weft.keys = {input = "list", dim = "N", tile = 64 : i32}, weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "G", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "G", "S", "E"], element = "float"}, {name = "list", dims = ["H", "M", "N"], element = "int"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %c = weft.map Ge %i, %j : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
