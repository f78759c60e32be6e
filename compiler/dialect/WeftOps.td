// Operations of the `weft` dialect.
#ifndef WEFT_OPS_TD
#define WEFT_OPS_TD

include "compiler/dialect/Scalars.td"
include "compiler/dialect/WeftAttributes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Weft_PairwiseOp : WeftOp<"pairwise", [IsolatedFromAbove, Symbol, SingleBlock]> {
  let summary = "a scalar program of one query-key pair";
  let description = [{
    The block has the arguments b, h, i, j (i32) and ends with `weft.yield`. `@forward` yields the
    score and, where the variant has them, mask, weight and gate. `@backward` recomputes these and
    passes cotangents on with `weft.cotangent` and `weft.accumulate`; it yields the factor of v.
    (C1) the block has exactly four i32 arguments.

    ```mlir
    weft.pairwise @forward {
    ^bb0(%b: i32, %h: i32, %i: i32, %j: i32):
      %s = weft.dot @q, @k
      weft.yield ["score"] %s : f32
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let hasVerifier = 1;
}

def Weft_YieldOp : WeftOp<"yield", [Terminator, HasParent<"PairwiseOp">]> {
  let summary = "names the results of a pairwise program";
  let description = [{ (C1) as many names as operands. `weft.yield ["score"] %s : f32` }];
  let arguments = (ins StrArrayAttr:$names, Variadic<Scalar>:$values);
  let assemblyFormat = "$names ($values^ `:` type($values))? attr-dict";
  let hasVerifier = 1;
}

def Weft_MapOp : WeftOp<"map", [Pure]> {
  let summary = "a function of the language applied to scalars";
  let description = [{
    (C1) the number of operands is the function's arity.
    Ints have 32 bits. Sums, differences, products, negatives and absolute values beyond them saturate: nothing wraps, so that
    each of them rises or falls with its operands, which interval analysis relies on. `exact` says that the result is known
    to fit (see compiler/transforms/mark_exact.cpp).
    `%y = weft.map Clamp %x, %lo, %hi : (f32, f32, f32) -> f32`, `%d = weft.map Sub exact %i, %j : (i32, i32) -> i32`
  }];
  let arguments = (ins Weft_Function:$function, UnitAttr:$exact, Variadic<Scalar>:$args);
  let results = (outs Scalar:$result);
  let assemblyFormat = "$function (`exact` $exact^)? $args attr-dict `:` functional-type($args, $result)";
  let builders = [
    // The result's type follows from the function and its operands.
    OpBuilder<(ins "::weft::ast::Function":$function, "::mlir::ValueRange":$args, CArg<"bool", "false">:$exact)>
  ];
  let extraClassDeclaration = "::weft::ast::Function function() { return getFunction().getValue(); }";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Weft_DimOp : WeftOp<"dim", [Pure]> {
  let summary = "the size of a dim of the signature";
  let description = "`%t = weft.dim \"T\"`";
  let arguments = (ins StrAttr:$dim);
  let results = (outs I32:$result);
  let assemblyFormat = "$dim attr-dict";
}

def Weft_ReadOp : WeftOp<"read", [Pure]> {
  let summary = "one element of an input";
  let description = [{
    Indices name every dim of the input, in order. An index outside its dim is clamped into it and,
    where the pair is kept, raises the kernel's status. `segment`: the last index is a number x instead, and the result the
    last n whose element is at most x, -1 before the first one: found by bisection, of numbers that rise along the dim.
    `%z = weft.read @span[%h] : f32`   `%n = weft.read segment @offsets[%i] : i32`
  }];
  let arguments = (ins FlatSymbolRefAttr:$input, Variadic<I32>:$indices, UnitAttr:$segment);
  let results = (outs Scalar:$result);
  let assemblyFormat = "(`segment` $segment^)? $input `[` $indices `]` attr-dict `:` type($result)";
}

def Weft_DotOp : WeftOp<"dot", [Pure]> {
  let summary = "the dot product of row i of a query input and row j of a key input";
  let description = "`%s = weft.dot @q, @k`";
  let arguments = (ins FlatSymbolRefAttr:$query, FlatSymbolRefAttr:$key);
  let results = (outs Real:$result);
  let assemblyFormat = "$query `,` $key attr-dict";
}

def Weft_RowOp : WeftOp<"row", [Pure]> {
  let summary = "a value the kernel keeps for each query, or has summed up for the pair";
  let description = [{
    (C1) the name is that of a RowState of a normaliser: its file in compiler/normalizers says what it is. `%l = weft.row "peak"`
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs Real:$result);
  let assemblyFormat = "$name attr-dict";
  let hasVerifier = 1;
}

def Weft_RandomOp : WeftOp<"random", [Pure]> {
  let summary = "the pair's uniform number in [0, 1) from Philox4x32-10";
  let description = [{
    Counter (i, j, b * H + h, offset), key seed; the same in forward and backward. `set` is the number of the pair's set of
    keys, from 0; it stands above the bits of j. With `origin`, i and j count from the first query and key of the whole
    sequence. `%u = weft.random`
  }];
  let arguments = (ins DefaultValuedAttr<I32Attr, "0">:$set, UnitAttr:$origin);
  let results = (outs Real:$result);
  let assemblyFormat = "attr-dict";
}

def Weft_MaskOp : WeftOp<"mask"> {
  let summary = "marks the hard mask of the pair";
  let description = "What is proved full or empty for a tile is this value. `%m = weft.mask %c`";
  let arguments = (ins I1:$value);
  let results = (outs I1:$result);
  let assemblyFormat = "$value attr-dict";
}

def Weft_AccumulateOp : WeftOp<"accumulate"> {
  let summary = "adds a cotangent to one element of an input's gradient";
  let description = [{
    `per` says what the element depends on besides b and h: head (nothing), query (exactly i), key
    (exactly j) or any. `weft.accumulate @span[%h], %g per head`
  }];
  let arguments = (ins FlatSymbolRefAttr:$input, Variadic<I32>:$indices, Real:$value,
                   DefaultValuedAttr<Weft_Dependence, "::weft::dialect::Dependence::Any">:$per);
  let assemblyFormat = "$input `[` $indices `]` `,` $value (`per` $per^)? attr-dict";
}

def Weft_CotangentOp : WeftOp<"cotangent"> {
  let summary = "the cotangent of one dot of the pair";
  let description = "`weft.cotangent @q, @k, %ds`";
  let arguments = (ins FlatSymbolRefAttr:$query, FlatSymbolRefAttr:$key, Real:$value);
  let assemblyFormat = "$query `,` $key `,` $value attr-dict";
}

#endif
