// Types of scalars that the `weft` and the `tile` dialect share.
#ifndef WEFT_SCALARS_TD
#define WEFT_SCALARS_TD

include "mlir/IR/OpBase.td"

/// What floats of a kernel are: f32, or f64 where its rows are. Built, it is that of the context.
def Real : Type<CPred<"::weft::dialect::isReal($_self)">, "f32 or f64">,
           BuildableType<"::weft::dialect::realType($_builder.getContext())">;
def Scalar : AnyTypeOf<[Real, I32, I1]>;

#endif
