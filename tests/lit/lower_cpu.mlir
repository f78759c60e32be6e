// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16" --expand-functions --choose-products=cpu=haswell --pack-operands --assign-scratch=cpu=haswell --lower-to-cpu=cpu=haswell | FileCheck %s --check-prefix=FMA
// RUN: weft-opt %s --build-kernel="kernel=forward dims=D=64,E=32,R=16 type=bf16" --expand-functions --choose-products=cpu=sapphirerapids --pack-operands --assign-scratch=cpu=sapphirerapids --lower-to-cpu=cpu=sapphirerapids | FileCheck %s --check-prefix=AMX

// Queries are packed by transposition in registers; products broadcast a key and multiply a register of queries.
// FMA-LABEL: func.func @weft_t_forward
// FMA-SAME: scratchBytes =
// FMA: scf.for
// FMA: vector.shuffle
// FMA: vector.broadcast %{{.*}} : f32 to vector<8xf32>
// FMA: vector.fma {{.*}} : vector<8xf32>
// FMA-NOT: x86.tdpbf16ps

// The registers of AMX are described once a thread, before its programs.
// AMX-LABEL: func.func @weft_t_forward
// AMX: llvm.call_intrinsic "llvm.x86.ldtilecfg"
// AMX: scf.for
// AMX: llvm.call_intrinsic "llvm.x86.tilezero"
// AMX: llvm.call_intrinsic "llvm.x86.tdpbf16ps"
// AMX: llvm.call_intrinsic "llvm.x86.tilestored64"
// While pairs are computed the unit is kept awake, every 32 keys.
// AMX: scf.for {{.*}} iter_args
// AMX-NOT: tileloadd64
// AMX: llvm.call_intrinsic "llvm.x86.tdpbf16ps"
// AMX: scf.for {{.*}} iter_args
// AMX: arith.cmpf ogt
// Two registers of probabilities are rounded by one instruction.
// AMX: llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
// AMX: llvm.call_intrinsic "llvm.x86.tileloadd64"
// AMX: llvm.call_intrinsic "llvm.x86.tdpbf16ps"
// AMX: llvm.call_intrinsic "llvm.x86.tilerelease"
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
