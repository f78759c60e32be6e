// The compiler's passes. compiler/pipeline.cpp says in which order they run; weft-opt runs any of them.
#ifndef WEFT_PASSES_TD
#define WEFT_PASSES_TD

include "mlir/Pass/PassBase.td"

class WeftPass<string name> : Pass<name, "mlir::ModuleOp"> {
  let dependentDialects = [
    "mlir::arith::ArithDialect", "mlir::math::MathDialect", "mlir::scf::SCFDialect", "mlir::func::FuncDialect",
    "mlir::vector::VectorDialect", "mlir::LLVM::LLVMDialect", "mlir::NVVM::NVVMDialect", "weft::dialect::WeftDialect",
    "weft::tile::TileDialect",
    "weft::cpu::CpuDialect", "weft::cta::CtaDialect"
  ];
}

// ---- what is computed: the `weft` dialect ------------------------------------------------------

def MarkExact : WeftPass<"mark-exact"> {
  let summary = "marks int arithmetic that cannot leave 32 bits";
}

def Differentiate : WeftPass<"differentiate"> {
  let summary = "derives @backward from @forward in reverse mode";
}

// ---- kernels over tiles: the `tile` dialect ----------------------------------------------------

def BuildKernel : WeftPass<"build-kernel"> {
  let summary = "builds one kernel over tiles from the pairwise programs";
  let options = [
    Option<"kernel", "kernel", "std::string", "\"forward\"", "its name">,
    ListOption<"dims", "dims", "std::string", "sizes of the dims that rows end in: D=64,E=32">,
    Option<"tileQ", "tile-q", "int", "64", "queries of a tile">,
    Option<"tileK", "tile-k", "int", "64", "keys of a tile">,
    Option<"type", "type", "std::string", "\"f32\"", "element type of rows: f32, bf16, f16 or f64">,
    Option<"headsInner", "heads-inner", "bool", "false", "neighbouring programs differ by head, not by tile">,
    Option<"paged", "paged", "bool", "false", "keys lie in pages">,
    Option<"sharedRows", "shared-rows", "bool", "false", "several threads hold a row: peaks lag, sums stay in parts">,
    Option<"wideSums", "wide-sums", "bool", "false", "gradients of entries that many pairs share are f64">
  ];
}

def ExpandFunctions : WeftPass<"expand-functions"> {
  let summary = "replaces functions of the language by arithmetic";
}

def VerifyConsumed : WeftPass<"verify-consumed"> {
  let summary = "fails where a tile that is consumed has another use";
}

// ---- targets -----------------------------------------------------------------------------------

def ExpandExp : WeftPass<"expand-exp"> {
  let summary = "replaces exponentials by polynomials";
  let options = [Option<"avx512", "avx512", "bool", "true", "with the instructions of AVX-512">];
}

// CPUs

def ChooseProducts : WeftPass<"choose-products"> {
  let summary = "chooses what multiplies the tiles of a kernel";
  let options = [
    Option<"cpu", "cpu", "std::string", "\"host\"", "what LLVM calls the CPU, or host">,
    Option<"blockRows", "block-rows", "int", "6", "rows of a register block; 1: queries are few">
  ];
}

def PackOperands : WeftPass<"pack-operands"> {
  let summary = "says how each tile lies in memory, and packs what products take";
}

def AssignScratch : WeftPass<"assign-scratch"> {
  let summary = "gives each tile its place in the thread's scratch memory";
  let options = [Option<"cpu", "cpu", "std::string", "\"host\"", "what LLVM calls the CPU, or host">];
}

def LowerToCpu : WeftPass<"lower-to-cpu"> {
  let summary = "lowers a kernel over tiles to vector code of a CPU";
  let options = [
    Option<"cpu", "cpu", "std::string", "\"host\"", "what LLVM calls the CPU, or host">,
    Option<"blockRows", "block-rows", "int", "6", "rows of a register block of products">
  ];
}

def ExpandBf16 : WeftPass<"expand-bf16"> {
  let summary = "replaces conversions to and from bf16 by arithmetic on ints";
}

// NVIDIA GPUs

def OrientProducts : WeftPass<"orient-products"> {
  let summary = "turns tiles of pairs to [key, query] where all that is made of them is summed over queries";
}

def ChooseInstructions : WeftPass<"choose-instructions"> {
  let summary = "chooses the instruction of each product, and how tiles lie in registers and shared memory";
  let options = [Option<"warpgroups", "warpgroups", "bool", "false", "products of 16-bit types by warpgroups: sm_90a">,
                 Option<"pairs", "pairs", "bool", "false", "atomic sums of two neighbours at once: sm_90">];
}

def MakeRings : WeftPass<"make-rings"> {
  let summary = "gives the copies of a kernel of warpgroups to warps of their own";
  let options = [Option<"stages", "stages", "int", "2", "tiles of a streamed operand in shared memory, 1 to 4">];
}

def StaggerProducts : WeftPass<"stagger-products"> {
  let summary = "lets the last product of a turn go on beside the next turn's pairs";
}

def PipelineLoads : WeftPass<"pipeline-loads"> {
  let summary = "says when operands are copied to shared memory, those of a loop ahead of their turn";
  let options = [Option<"stages", "stages", "int", "2", "tiles of a streamed operand in shared memory, 1 to 4">];
}

def OverlapProducts : WeftPass<"overlap-products"> {
  let summary = "lets products of warpgroups go on beside one another until one is needed";
}

def TakeTurns : WeftPass<"take-turns"> {
  let summary = "lets the warpgroups of a block start their products one after another";
}

def AllocateShared : WeftPass<"allocate-shared"> {
  let summary = "gives each buffer its place in shared memory";
}

def InsertBarriers : WeftPass<"insert-barriers"> {
  let summary = "inserts the barriers that accesses to shared memory need";
}

def FoldBounds : WeftPass<"fold-bounds"> {
  let summary = "makes one operation of a comparison and the choice of the greater or lesser";
}

def ApproximateFunctions : WeftPass<"approximate-functions"> {
  let summary = "replaces functions by a GPU's approximate instructions";
  let options = [Option<"narrow", "narrow", "bool", "false", "rows have 16-bit types: errors below theirs do not count">];
}

def LowerToNvvm : WeftPass<"lower-to-nvvm"> {
  let summary = "lowers a kernel over tiles to the code of one thread of a GPU";
  let options = [Option<"roles", "roles", "bool", "false", "a call has kernels of roles, whose blocks take programs">];
}

#endif
