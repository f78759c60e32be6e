// RUN: weft-opt %s --build-kernel="kernel=plan_lists dims=D=64,E=32,R=16" --loop-invariant-code-motion | FileCheck %s
// RUN: weft-opt %s --build-kernel="kernel=plan_lists_keys dims=D=64,E=32,R=16" | FileCheck %s --check-prefix=KEYS

// Documents: a range of the row's own input once, outside the loop over the other side; each row writes its kept tiles
// and their count.
// CHECK-LABEL: tile.kernel @t.plan_lists grid query
// CHECK: tile.read_range @doc
// CHECK: scf.for
// CHECK-NOT: tile.read_range @doc
// CHECK: tile.read_range @key_doc
// CHECK: tile.append %{{.*}} to @entries
// CHECK: tile.store_flat %{{.*}}, @counts

// KEYS-LABEL: tile.kernel @t.plan_lists_keys grid head_key
// KEYS: tile.append %{{.*}} to @entries_keys
// KEYS: tile.store_flat %{{.*}}, @counts_keys
module @t attributes {weft.normalize = "softmax", weft.inputs = [
    {name = "q", dims = ["B", "H", "T", "D"], element = "float"}, {name = "k", dims = ["B", "H", "S", "D"], element = "float"},
    {name = "v", dims = ["B", "H", "S", "E"], element = "float"}, {name = "doc", dims = ["B", "T"], element = "int"},
    {name = "key_doc", dims = ["B", "S"], element = "int"}]} {
  weft.pairwise @forward {
  ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
    %x = weft.read @doc[%b, %i] : i32
    %y = weft.read @key_doc[%b, %j] : i32
    %c = weft.map Eq %x, %y : (i32, i32) -> i1
    %m = weft.mask %c
    %s = weft.dot @q, @k
    weft.yield ["mask", "score"] %m, %s : i1, f32
  }
}
