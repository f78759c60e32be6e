// The `weft` dialect: what a variant computes for one (query, key) pair.
#ifndef WEFT_DIALECT_TD
#define WEFT_DIALECT_TD

include "mlir/IR/OpBase.td"

def WeftDialect : Dialect {
  let name = "weft";
  let cppNamespace = "::weft::dialect";
  let summary = "Pairwise programs of attention variants";
  let useDefaultAttributePrinterParser = 1;
  let description = [{
    A module holds one variant. Its attributes `weft.inputs` and `weft.normalize` describe the
    signature; each `weft.pairwise` region computes scalars of one pair (i, j) of head h of batch b.
    Scalars are f32, i32 or i1. In the context of a call whose rows are f64 all floats are.
  }];
  let extraClassDeclaration = [{
    bool wide = false;  ///< floats are f64
  }];
}

class WeftOp<string mnemonic, list<Trait> traits = []> : Op<WeftDialect, mnemonic, traits>;

#endif
