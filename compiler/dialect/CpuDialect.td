// The `cpu` dialect: the program of a CPU's thread over tiles in memory.
#ifndef CPU_DIALECT_TD
#define CPU_DIALECT_TD

include "mlir/IR/OpBase.td"

def CpuDialect : Dialect {
  let name = "cpu";
  let cppNamespace = "::weft::cpu";
  let summary = "Programs of a CPU's thread over tiles in its memory";
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::weft::tile::TileDialect"];
  let description = [{
    What stands between a kernel over tiles and vector code. Tiles are the `tile` dialect's tensors; an encoding
    (#cpu.layout) says how one lies in memory. What products take is packed, converted or gathered by operations of its
    own.

    A product's accumulator, the tile of tile.scale_rows and what a loop carries are consumed: the result lies where they
    lay. `cpu.places` of an operation says where its results lie in the thread's scratch memory, in bytes.

    Passes come to it in this order: choose-products, pack-operands, assign-scratch.
  }];
}

#endif
