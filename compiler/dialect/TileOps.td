// Operations of the `tile` dialect.
#ifndef TILE_OPS_TD
#define TILE_OPS_TD

include "compiler/dialect/Scalars.td"
include "compiler/dialect/TileAttributes.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/LoopLikeInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Tile2D : RankedTensorOf<[F32, F64]>;

def Tile_KernelOp : TileOp<"kernel", [IsolatedFromAbove, Symbol, SymbolTable, SingleBlock, NoTerminator]> {
  let summary = "one kernel: a program over a grid";
  let description = [{
    `grid` names the programs: query (b, h, query tile), key (b, g, key tile), head_key (b, h, key tile), group (b, g) or
    head (b, h). The block arguments are the program's coordinates (i32).
    `keyDim` is the dim that key tiles divide: another one than S for keys of `also`.
    `rows`: queries, or heads of one query. With heads b is a position, b T + i of query i of batch entry b, and h a group
    ("heads") or a head ("head"): query tiles divide the heads of a group. Of a key or group grid b stays a batch entry.
    `order` says how neighbouring programs differ. `listed`: the keys that a query looks at are those a list names, not all.
    Every tensor that is named inside is declared there (see tile.tensor): a kernel needs nothing beside it.
    (C1) 2 or 3 arguments to fit the grid; (C2) tile sizes are positive; (C3) names of tensors are declared.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Tile_Grid:$grid, I32Attr:$tileQ, I32Attr:$tileK,
                   DefaultValuedStrAttr<StrAttr, "S">:$keyDim,
                   DefaultValuedAttr<Tile_Order, "::weft::tile::Order::Tiles">:$order,
                   DefaultValuedAttr<Tile_Rows, "::weft::tile::Rows::Queries">:$rows,
                   OptionalAttr<Tile_ListedKeys>:$listed);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name `grid` $grid `schedule` `<` `q` `=` $tileQ `,` `k` `=` $tileK `>` (`rows` $rows^)? (`order` $order^)? (`listed` $listed^)?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
}

def Tile_TensorOp : TileOp<"tensor", [Symbol, HasParent<"KernelOp">]> {
  let summary = "a tensor in memory that the kernel reads or writes";
  let description = [{
    `dims` are names of dims; none: the kernel counts the elements of the tensor itself, one after another. `strided`: its
    strides come with the call, all but the last, which is 1; others are contiguous. `paged`: row j of batch entry b is
    row j mod `page` of entry pages[b, j / page] of a tensor whose first dim counts pages.

    `tile.tensor @q : bf16 ["B", "H", "T", "D"] operand strided`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$element, StrArrayAttr:$dims, Tile_TensorRole:$role,
                   UnitAttr:$strided, UnitAttr:$paged);
  let assemblyFormat = "$sym_name `:` $element $dims $role (`strided` $strided^)? (`paged` $paged^)? attr-dict";
}

def Tile_LoadOp : TileOp<"load", [Pure]> {
  let summary = "rows of a [B, heads, rows, columns] tensor, as f32";
  let description = "`%Q = tile.load @q[%b, %h] query rows %qt : tensor<64x64xf32>`. Rows past the end read as zero.";
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index, Tile_Side:$side);
  let results = (outs Tile2D:$result);
  let assemblyFormat = "$tensor `[` $batch `,` $head `]` $side `rows` $index attr-dict `:` type($result)";
}

def Tile_LoadRowsOp : TileOp<"load_rows", [Pure]> {
  let summary = "one f32 a query from a [B, H, T] tensor; rows past the end read as `fill`";
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index, F32Attr:$fill);
  let results = (outs Tile2D:$result);
  let assemblyFormat =
      "$tensor `[` $batch `,` $head `]` `rows` $index `fill` $fill attr-dict `:` type($result)";
}

// Not pure: an accumulator starts here, and two equal starts are two accumulators.
def Tile_FillOp : TileOp<"fill"> {
  let summary = "a tile of one value";
  let arguments = (ins Real:$value, Tile_Side:$side);
  let results = (outs Tile2D:$result);
  let assemblyFormat = "$side $value attr-dict `:` type($result)";
}

def Tile_ForOp : TileOp<"for", [SingleBlock, DeclareOpInterfaceMethods<LoopLikeOpInterface,
    ["getLoopInductionVars", "getInitsMutable", "getRegionIterArgs", "getYieldedValuesMutable", "getLoopResults"]>]> {
  let summary = "a loop over heads, tiles, or kept tiles, carrying tiles";
  let description = [{
    `over` is "heads" (of a group: `start` is the group), "positions" (the queries of batch entry `start`, as a kernel
    whose rows are heads counts them), "queries" (all query tiles), "keys" (kept
    key tiles of query tile `start`), "keys_descending" (the same, the last one first) or "kept_queries" (kept query tiles
    of key tile `start`), or "turns": `start` of them, a constant.
    `keyDim` counts the keys. `plan` names what says which tiles are kept: [@band], the least and greatest i - j of a head,
    or [@counts, @entries], lists of a row of tiles (see compiler/transforms/build_plan.h). The block has the loop index (i32), for kept tiles a flag that is true where the tile is full
    (i1), and the carried values.
    (C1) results, inits and carried arguments agree in number and type; (C2) constant turns.
  }];
  let arguments = (ins Tile_Range:$over, I32:$batch, I32:$head, I32:$start, Variadic<Tile2D>:$initArgs,
                   DefaultValuedStrAttr<StrAttr, "S">:$keyDim, OptionalAttr<ArrayAttr>:$plan);
  let results = (outs Variadic<Tile2D>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $over `[` $batch `,` $head `]` `of` $start (`kept` $plan^)? (`init` `(` $initArgs^ `:` type($initArgs) `)`)?
    (`->` type($results)^)? attr-dict-with-keyword $body
  }];
  let extraClassDeclaration = [{
    bool overKeys() { return getOver() == Range::Keys || getOver() == Range::KeysDescending; }
    /// Only over the tiles that the plan keeps.
    bool overKept() { return overKeys() || getOver() == Range::KeptQueries; }
    /// Of turns: how many.
    int64_t turns();
  }];
  let hasVerifier = 1;
}

def Tile_YieldOp : TileOp<"yield", [Terminator, HasParent<"ForOp">]> {
  let summary = "the carried values of the next turn";
  let arguments = (ins Variadic<Tile2D>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Tile_DotOp : TileOp<"dot", [Pure]> {
  let summary = "a product of tiles, added to `acc` where given";
  let description = [{
    `form` says which axes meet: nt A[m,c] B[n,c] -> [m,n]; nn A[m,c] B[c,n] -> [m,n];
    tn A[c,m] B[c,n] -> [m,n]. An accumulator is consumed: it has no other use.
    `blocked` asks for blocked summation: elements that others of their size are taken from, so that their last bits count.
    (C1) shapes agree with the form.
  }];
  let arguments = (ins Tile_DotForm:$form, UnitAttr:$blocked, Tile2D:$lhs, Tile2D:$rhs, Optional<Tile2D>:$acc);
  let results = (outs Tile2D:$result);
  let assemblyFormat = [{
    $form (`blocked` $blocked^)? $lhs `,` $rhs (`add` $acc^ `:` type($acc))? attr-dict
    `:` type($lhs) `,` type($rhs) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_DotIntoOp : TileOp<"dot_into"> {
  let summary = "adds a product of tiles to rows of an f32 [B, heads, rows, columns] tensor";
  let description = "`atomic`: other programs add to these rows as well.";
  let arguments = (ins Tile_DotForm:$form, Tile2D:$lhs, Tile2D:$rhs, UnitAttr:$atomic, FlatSymbolRefAttr:$tensor,
                   I32:$batch, I32:$head, I32:$index);
  let assemblyFormat = [{
    $form $lhs `,` $rhs (`atomic` $atomic^)? `into` $tensor `[` $batch `,` $head `]` `rows` $index attr-dict
    `:` type($lhs) `,` type($rhs)
  }];
}

def Tile_ScaleOp : TileOp<"scale", [Pure, AllTypesMatch<["tile", "result"]>]> {
  let summary = "multiplies a tile by a constant; the tile is consumed";
  let arguments = (ins Tile2D:$tile, F64Attr:$factor);
  let results = (outs Tile2D:$result);
  let assemblyFormat = "$tile `by` $factor attr-dict `:` type($tile)";
}

def Tile_ScaleRowsOp : TileOp<"scale_rows", [Pure, AllTypesMatch<["tile", "result"]>]> {
  let summary = "multiplies row r of a tile of queries by factor r; the tile is consumed";
  let description = [{
    (C1) there is a factor for each row.
  }];
  let arguments = (ins Tile2D:$tile, Tile2D:$factors);
  let results = (outs Tile2D:$result);
  let assemblyFormat = "$tile `by` $factors attr-dict `:` type($tile) `,` type($factors)";
  let hasVerifier = 1;
}

def Tile_PairwiseOp : TileOp<"pairwise", [SingleBlock, AttrSizedOperandSegments]> {
  let summary = "a scalar program at each pair of a (query tile, key tile)";
  let description = [{
    The block has the arguments i, j (i32), one f32 for each tile operand (its element) and one for
    each row operand (the value of query i). `tile.result` ends it: tiles, then row reductions.
    `transposed`: tiles are [key, query]; a target may then keep row operands in a memory of its own.
    `parts`: sums of rows are left to tile.add_parts, which has to see them before they are read for anything but sums.
    `full` is true where every pair of the tile is kept and in bounds. Scalar operations of the
    `weft` dialect (read, dim, mask, random, accumulate) stand for this pair.
    (C1) tiles are all [query, key] or, transposed, [key, query]; (C2) results agree with `tile.result`; (C3) no
    reductions of rows where transposed; (C4) elsewhere row operands are tensors.
  }];
  let arguments = (ins I32:$batch, I32:$head, I32:$query, I32:$key, Optional<I1>:$full,
                   Variadic<Tile2D>:$tiles, Variadic<AnyType>:$rows, DenseI32ArrayAttr:$reductions,
                   DefaultValuedStrAttr<StrAttr, "S">:$keyDim, UnitAttr:$transposed, UnitAttr:$parts);
  let results = (outs Variadic<Tile2D>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `at` `[` $batch `,` $head `,` $query `,` $key `]` (`full` $full^)? (`transposed` $transposed^)?
    (`parts` $parts^)?
    `tiles` `(` ($tiles^ `:` type($tiles))? `)` `rows` `(` ($rows^ `:` type($rows))? `)`
    `reduce` custom<Reductions>($reductions) (`->` type($results)^)? attr-dict-with-keyword $body
  }];
  let extraClassDeclaration = [{
    unsigned tileResults() { return getNumResults() - getReductions().size(); }
    Reduction reduction(size_t at) { return static_cast<Reduction>(getReductions()[at]); }
  }];
  let hasVerifier = 1;
}

def Tile_RowwiseOp : TileOp<"rowwise", [SingleBlock]> {
  let summary = "a scalar program at each query of a tile";
  let description = "Arguments: i (i32), one f32 a row operand. Ends with `tile.result`.";
  let arguments = (ins I32:$batch, I32:$head, I32:$query, Variadic<Tile2D>:$rows);
  let results = (outs Variadic<Tile2D>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `at` `[` $batch `,` $head `,` $query `]` `rows` `(` ($rows^ `:` type($rows))? `)`
    (`->` type($results)^)? attr-dict-with-keyword $body
  }];
}

def Tile_AddPartsOp : TileOp<"add_parts", [Pure, AllTypesMatch<["rows", "sums"]>]> {
  let summary = "sums of rows of which the threads that hold a row have parts (tile.pairwise `parts`)";
  let arguments = (ins Tile2D:$rows);
  let results = (outs Tile2D:$sums);
  let assemblyFormat = "$rows attr-dict `:` type($rows)";
}

def Tile_BelowPeakOp : TileOp<"below_peak", [Pure, AllTypesMatch<["scores", "differences"]>, AllTypesMatch<["peaks", "factors", "products"]>]> {
  let summary = "scores and peaks so that (score - peak) factor is one fma, differences * factor - products";
  let description = [{
    Products are peak * factor, rounded, and differences the scores. Where one is no less than 2^10, of which rounding
    would be seen, the product is 0, and differences are score - peak.
    (C1) there is a peak for each row.
  }];
  let arguments = (ins Tile2D:$scores, Tile2D:$peaks, Tile2D:$factors);
  let results = (outs Tile2D:$differences, Tile2D:$products);
  let assemblyFormat = "$scores `,` $peaks `by` $factors attr-dict `:` type($scores) `,` type($peaks)";
  let hasVerifier = 1;
}

def Tile_ResultOp : TileOp<"result", [Terminator]> {
  let summary = "the scalars a pairwise or rowwise program gives";
  let arguments = (ins Variadic<Real>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Tile_RowDotOp : TileOp<"row_dot", [Pure, AllTypesMatch<["lhs", "rhs"]>]> {
  let summary = "the dot product of equal rows of two tiles";
  let arguments = (ins Tile2D:$lhs, Tile2D:$rhs);
  let results = (outs Tile2D:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `->` type($result)";
}

def Tile_ScanSumOp : TileOp<"scan_sum", [Pure, AllTypesMatch<["tile", "sums"]>]> {
  let summary = "for each pair of a [query, key] tile the sum over the keys after it or before it, and the row's sum over all";
  let description = [{
    Sums run from the far end, so that small terms there stay exact. `key` is the key tile: keys past the end count as
    zero.
  }];
  let arguments = (ins Tile_ScanSide:$side, Tile2D:$tile, I32:$key);
  let results = (outs Tile2D:$sums, Tile2D:$totals);
  let assemblyFormat = "$side $tile `at` $key attr-dict `:` type($tile) `,` type($totals)";
}

def Tile_StoreOp : TileOp<"store"> {
  let summary = "writes rows of a [B, heads, rows, columns] tensor in its own type";
  let arguments = (ins Tile2D:$value, FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index);
  let assemblyFormat =
      "$value `,` $tensor `[` $batch `,` $head `]` `rows` $index attr-dict `:` type($value)";
}

def Tile_StoreRowsOp : TileOp<"store_rows"> {
  let summary = "writes one f32 a query of a [B, H, T] tensor";
  let arguments = (ins Tile2D:$value, FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index);
  let assemblyFormat =
      "$value `,` $tensor `[` $batch `,` $head `]` `rows` $index attr-dict `:` type($value)";
}

// Scalar programs: plans that bound the loops over kept tiles, and selections of tiles. A loop of theirs whose turns are
// independent says so in `tile.independent`: how the values meet that it carries; append where they are the end of a list.
// The threads of a GPU's warp share such turns.

def Tile_ReadRangeOp : TileOp<"read_range", [Pure]> {
  let summary = "least and greatest element of an input with one index in a range";
  let description = [{
    Index `axis` runs from its entry in `indices` to `last`; the other indices are fixed.
  }];
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32Attr:$axis, I32:$last, Variadic<I32>:$indices);
  let results = (outs Scalar:$least, Scalar:$greatest);
  let assemblyFormat =
      "$tensor `axis` $axis `to` $last `[` $indices `]` attr-dict `:` type($least) `,` type($greatest)";
}

def Tile_PoolRowsOp : TileOp<"pool_rows"> {
  let summary = "sums some rows of a tensor up as one";
  let description = [{
    For c < width: the mean, max or min over the rows from `first` to before `end` of `tensor`, [batch, head, row, c], in f32, goes to
    `to[at + c * stride]`. The mean of no rows is 0; `head` counts the tensor's own heads.
    (C1) a positive width and stride.
  }];
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$first, I32:$end, Tile_Pooling:$by, I64Attr:$width, FlatSymbolRefAttr:$to, I32:$index, I64Attr:$stride);
  let assemblyFormat = [{
    $tensor `[` $batch `,` $head `]` `rows` $first `to` $end `by` $by `width` $width `into` $to `[` $index `]` `stride` $stride attr-dict
  }];
  let hasVerifier = 1;
}

def Tile_StoreFlatOp : TileOp<"store_flat"> {
  let summary = "writes one element of a flat buffer of i32, f32 or, a byte each, bools";
  let arguments = (ins AnyTypeOf<[I1, I32, F32]>:$value, FlatSymbolRefAttr:$tensor, I32:$index);
  let assemblyFormat = "$value `,` $tensor `[` $index `]` attr-dict `:` type($value)";
}

def Tile_AppendOp : TileOp<"append"> {
  let summary = "writes a value at the end of a list where it counts, and gives the list's new end";
  let description = "`%end = tile.append %value if %kept to \"entries\"[%at]`";
  let arguments = (ins I32:$value, I1:$kept, FlatSymbolRefAttr:$tensor, I32:$index);
  let results = (outs I32:$next);
  let assemblyFormat = "$value `if` $kept `to` $tensor `[` $index `]` attr-dict";
}

def Tile_FlatDotsOp : TileOp<"flat_dots"> {
  let summary = "dot products of some rows with the rows of a block";
  let description = [{
    For m < mostRows and n < count, all f32:
    `to[at + m * stride + n] = sum over c < width of rows[r + min(m, given - 1) * width + c] * block[k + blockRows * c + n]`.
    A block holds blockRows rows column by column, so that neighbours in a register or a warp read neighbours, and is read once
    for all of the rows. Sums run in any order.
    (C1) a positive width; (C2) 1 to 8 rows; (C3) a positive number of rows of a block.
  }];
  let arguments = (ins FlatSymbolRefAttr:$rows, I32:$rowIndex, I64Attr:$mostRows, I32:$given, FlatSymbolRefAttr:$block, I32:$blockIndex, I64Attr:$blockRows, I64Attr:$width, I32:$count,
                       FlatSymbolRefAttr:$tensor, I32:$index, I32:$stride);
  let assemblyFormat = [{
    $rows `[` $rowIndex `]` `up_to` $mostRows `given` $given `,` $block `[` $blockIndex `]` `of` $blockRows `width` $width `count` $count `to` $tensor `[` $index `]`
    `stride` $stride attr-dict
  }];
  let hasVerifier = 1;
}

def Tile_LoadFlatOp : TileOp<"load_flat"> {
  let summary = "one element of a flat buffer of i32, f32 or, a byte each, bools";
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$index);
  let results = (outs AnyTypeOf<[I1, I32, F32]>:$result);
  let assemblyFormat = "$tensor `[` $index `]` attr-dict `:` type($result)";
}

#endif
