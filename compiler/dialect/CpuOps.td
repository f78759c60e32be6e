// Operations of the `cpu` dialect.
#ifndef CPU_OPS_TD
#define CPU_OPS_TD

include "compiler/dialect/CpuAttributes.td"
include "compiler/dialect/TileAttributes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class CpuOp<string mnemonic, list<Trait> traits = []> : Op<CpuDialect, mnemonic, traits>;

def CpuTile : RankedTensorOf<[F32, F64, BF16, F16]>;

// ---- rows of tensors -------------------------------------------------------------------------

class Cpu_RowsOp<string mnemonic> : CpuOp<mnemonic, [Pure]> {
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index);
  let results = (outs CpuTile:$result);
  let assemblyFormat = "$tensor `[` $batch `,` $head `]` `rows` $index attr-dict `:` type($result)";
}

def Cpu_ViewOp : Cpu_RowsOp<"view"> {
  let summary = "rows of a [B, heads, rows, columns] tensor, where they are and in its own type";
  let description = [{
    Rows past the end are not there: whatever reads a view goes as far as the tensor does.

    `%K = cpu.view @k[%b, %h] rows %kt : tensor<64x64xbf16, #cpu.layout<strided>>`
  }];
}

def Cpu_GatherOp : Cpu_RowsOp<"gather"> {
  let summary = "the rows of a tensor that a list of keys names, side by side, in its own type";
}

// ---- how products take tiles -----------------------------------------------------------------

class Cpu_CopyOp<string mnemonic> : CpuOp<mnemonic, [Pure]> {
  let arguments = (ins CpuTile:$source);
  let results = (outs CpuTile:$result);
  let assemblyFormat = "$source attr-dict `:` type($source) `->` type($result)";
  let hasVerifier = 1;
}

def Cpu_ConvertOp : Cpu_CopyOp<"convert"> {
  let summary = "f32 of rows of another type";
  let description = "(C1) from rows to f32 rows of the same shape.";
}

def Cpu_PackOp : Cpu_CopyOp<"pack"> {
  let summary = "another layout of rows; rows past the end become zero";
  let description = [{
    To `columns` in f32, or in bf16 to columns, row_pairs or column_pairs, whose columns are filled up with zeros to those
    of the result. Columns in bf16 come from rows that cpu.pad has filled up; its own padding is left away.
    (C1) from rows to columns or pairs; (C2) as many rows, and no fewer columns but for that.
  }];
}

def Cpu_PadOp : Cpu_CopyOp<"pad"> {
  let summary = "rows of which each is there, and fills whole steps of an AMX product";
  let description = [{
    Where they do so in their tensor they stay there; else they are copied, and what is missing becomes zero.
    (C1) from rows to strided rows; (C2) as many rows, and no fewer columns.
  }];
}

def Cpu_RoundOp : CpuOp<"round", [Pure]> {
  let summary = "bf16 of a [query, key] tile; pairs past the rows of `end` become zero";
  let description = [{
    `end` is the other side of the product that takes the result: keys of form nn, queries of form tn.
    (C1) from columns in f32 to columns or column_pairs in bf16, of the same shape.
  }];
  let arguments = (ins CpuTile:$source, CpuTile:$end);
  let results = (outs CpuTile:$result);
  let assemblyFormat = "$source `to_end_of` $end attr-dict `:` type($source) `,` type($end) `->` type($result)";
  let hasVerifier = 1;
}

// Not pure: two are two memories.
def Cpu_EmptyOp : CpuOp<"empty"> {
  let summary = "memory of a tile, with nothing in it yet";
  let results = (outs CpuTile:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

// ---- products --------------------------------------------------------------------------------

def Cpu_ProductOp : CpuOp<"product", [Pure]> {
  let summary = "a product of tiles by one kind of instruction, added to `acc` where given";
  let description = [{
    Forms, `blocked` and the accumulator, which is consumed, are those of tile.dot.
    (C1) shapes agree with the form; (C2) tiles that have a layout have the one, and the type, that the kind takes there.
  }];
  let arguments = (ins Cpu_ProductKind:$kind, Tile_DotForm:$form, UnitAttr:$blocked, CpuTile:$lhs, CpuTile:$rhs,
                   Optional<CpuTile>:$acc);
  let results = (outs CpuTile:$result);
  let assemblyFormat = [{
    $kind $form (`blocked` $blocked^)? $lhs `,` $rhs (`add` $acc^ `:` type($acc))? attr-dict
    `:` type($lhs) `,` type($rhs) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Cpu_ProductIntoOp : CpuOp<"product_into"> {
  let summary = "adds a product of tiles to rows of an f32 [B, heads, rows, columns] tensor";
  let description = [{
    `by` is the memory that sums go by on their way, where they cannot be added in place: to rows that a list names, or
    where registers reach past the end. (C1) as C2 of cpu.product.
  }];
  let arguments = (ins Cpu_ProductKind:$kind, Tile_DotForm:$form, CpuTile:$lhs, CpuTile:$rhs, Optional<CpuTile>:$by,
                   FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index);
  let assemblyFormat = [{
    $kind $form $lhs `,` $rhs (`by` $by^ `:` type($by))? `into` $tensor `[` $batch `,` $head `]` `rows` $index attr-dict
    `:` type($lhs) `,` type($rhs)
  }];
  let hasVerifier = 1;
}

#endif
