// The `cta` dialect: the program of a GPU's thread block over tiles.
#ifndef CTA_DIALECT_TD
#define CTA_DIALECT_TD

include "mlir/IR/OpBase.td"

def CtaDialect : Dialect {
  let name = "cta";
  let cppNamespace = "::weft::cta";
  let summary = "Programs of a cooperative thread array over tiles";
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::weft::tile::TileDialect", "::mlir::scf::SCFDialect", "::mlir::arith::ArithDialect"];
  let description = [{
    What stands between a kernel over tiles and the code of one thread. Tiles in registers are the `tile` dialect's tensors
    with an encoding that says which thread holds which element; operands of products are buffers in shared memory, their
    layout in their type. Copies, waits and barriers are operations, so that their order is the order of the text.

    Passes come to it in this order: choose-instructions, make-rings, stagger-products, pipeline-loads,
    overlap-products, take-turns, allocate-shared, insert-barriers.
  }];
}

#endif
