// Operations of the `cta` dialect.
#ifndef CTA_OPS_TD
#define CTA_OPS_TD

include "compiler/dialect/CtaAttributes.td"
include "compiler/dialect/TileAttributes.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class CtaOp<string mnemonic, list<Trait> traits = []> : Op<CtaDialect, mnemonic, traits>;

def Fragment : RankedTensorOf<[F32]>;

// ---- values in shared memory, before it is said when they come there -------------------------

def Cta_LoadOp : CtaOp<"load", [Pure]> {
  let summary = "rows of a [B, heads, rows, columns] tensor, in shared memory";
  let description = [{
    The value that all warps can read; pipeline-loads says when it is copied, and into which buffer. Rows past the end are
    zero.

    `%K = cta.load @k[%b, %h] rows %kt : !cta.shared<64x64xbf16, #cta.padded<pitch = 144>>`
  }];
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = "$tensor `[` $batch `,` $head `]` `rows` $index attr-dict `:` type($result)";
}

def Cta_LoadRowsOp : CtaOp<"load_rows", [Pure]> {
  let summary = "one f32 a query from a [B, H, T] tensor, in shared memory; those past the end are `fill`";
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index, F32Attr:$fill);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = [{
    $tensor `[` $batch `,` $head `]` `rows` $index `fill` $fill attr-dict `:` type($result)
  }];
}

def Cta_ShareOp : CtaOp<"share", [Pure]> {
  let summary = "a tile from registers, in shared memory and the type of operands";
  let arguments = (ins Fragment:$tile);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = "$tile attr-dict `:` type($tile) `->` type($result)";
}

// ---- shared memory ---------------------------------------------------------------------------

def Cta_AllocOp : CtaOp<"alloc", [MemoryEffects<[MemAlloc]>]> {
  let summary = "a buffer in shared memory";
  let description = "`offset`, in bytes, where allocate-shared has set it. A turn of a loop around finds the same buffer.";
  let arguments = (ins OptionalAttr<I64Attr>:$offset);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = "(`at` $offset^)? attr-dict `:` type($result)";
}

def Cta_StageOp : CtaOp<"stage", [Pure]> {
  let summary = "one of the tiles of a buffer";
  let description = "(C1) the tile is one of the buffer's.";
  let arguments = (ins Cta_Shared:$buffer, I32:$index);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = "$buffer `[` $index `]` attr-dict `:` type($buffer) `->` type($result)";
  let hasVerifier = 1;
}

def Cta_CopyAsyncOp : CtaOp<"copy_async", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "starts to copy rows of a tensor into a buffer";
  let description = [{
    Rows `index * rows` and the following of `tensor`, in the tensor's own type; those past the end become zero. The buffer
    holds them once the group of the copy has been waited for, and, for other threads than the one that copied, after a
    barrier.
  }];
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index, Cta_Shared:$buffer);
  let results = (outs Cta_Token:$token);
  let assemblyFormat = [{
    $tensor `[` $batch `,` $head `]` `rows` $index `to` $buffer attr-dict `:` type($buffer)
  }];
}

def Cta_CopyRowsAsyncOp : CtaOp<"copy_rows_async", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "starts to copy one f32 a query into a buffer of one row; see cta.load_rows, cta.copy_async";
  let arguments = (ins FlatSymbolRefAttr:$tensor, I32:$batch, I32:$head, I32:$index, F32Attr:$fill,
                   Cta_Shared:$buffer);
  let results = (outs Cta_Token:$token);
  let assemblyFormat = [{
    $tensor `[` $batch `,` $head `]` `rows` $index `fill` $fill `to` $buffer attr-dict `:` type($buffer)
  }];
}

def Cta_CommitGroupOp : CtaOp<"commit_group", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "makes one group of the copies that were started since the last";
  let arguments = (ins Variadic<Cta_Token>:$tokens);
  let assemblyFormat = "(`of` $tokens^)? attr-dict";
}

def Cta_WaitGroupOp : CtaOp<"wait_group", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits until all but the last `left` groups of this thread's copies have come";
  let arguments = (ins I32Attr:$left);
  let assemblyFormat = "$left attr-dict";
}

def Cta_StoreSharedOp : CtaOp<"store_shared", [MemoryEffects<[MemWrite]>]> {
  let summary = "writes a tile from registers into a buffer, in the buffer's type";
  let description = [{
    Of f32, the even ones of each eight columns come first, then the odd: 32 threads then write to 32 banks. cta.mma of form
    tn reads its left side so.
  }];
  let arguments = (ins Fragment:$tile, Cta_Shared:$buffer);
  let assemblyFormat = "$tile `,` $buffer attr-dict `:` type($tile) `,` type($buffer)";
}

def Cta_FenceAsyncOp : CtaOp<"fence_async", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "what this thread has written to shared memory is seen by products of warpgroups after the next barrier";
  let assemblyFormat = "attr-dict";
}

def Cta_BarrierOp : CtaOp<"barrier", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "all threads have come here, and see what the others have written";
  let assemblyFormat = "attr-dict";
}

// ---- rings -----------------------------------------------------------------------------------

def Cta_RingOp : CtaOp<"ring", [MemoryEffects<[MemAlloc]>]> {
  let summary = "a buffer whose tiles the producer fills and the consumers read, in turn";
  let description = [{
    Each tile has two mbarriers, `full` and `empty`, of 8 bytes, at `barriers` where allocate-shared has set it: those of
    `full` first. `tensor` is what fills it: one thread starts the copy of a tile (TMA), but where rows lie anywhere, in
    lists or pages: all of the producer's threads copy them. Lines of numbers are copied by a warp. `carries`: with each
    tile the producer says which one it is, and whether it is full; in a word each, behind the mbarriers.
    (C1) a buffer of several tiles has a leading dim; so has one of one tile.
  }];
  let arguments = (ins Cta_Shared:$buffer, FlatSymbolRefAttr:$tensor, UnitAttr:$carries,
                   OptionalAttr<I64Attr>:$barriers);
  let results = (outs Cta_Ring:$result);
  let assemblyFormat = [{
    $buffer `of` $tensor (`carries` $carries^)? (`barriers` $barriers^)? attr-dict `:` type($buffer)
  }];
  let extraClassDeclaration = [{
    cta::SharedType bufferType() { return getBuffer().getType(); }
    static constexpr int64_t bytesOfBarrier = 8, bytesOfWord = 4;
    int64_t barrierBytes() { return 2 * bytesOfBarrier * bufferType().stages(); }
    int64_t wordBytes() { return getCarries() ? bytesOfWord * bufferType().stages() : 0; }
  }];
  let hasVerifier = 1;
}

def Cta_CursorOp : CtaOp<"cursor", [MemoryEffects<[MemAlloc]>]> {
  let summary = "begins at the first tile of rings of so many";
  let arguments = (ins I64Attr:$stages);
  let results = (outs Cta_Cursor:$result);
  let assemblyFormat = "$stages attr-dict";
}

def Cta_AdvanceOp : CtaOp<"advance", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "goes on to the next tile";
  let arguments = (ins Cta_Cursor:$cursor);
  let assemblyFormat = "$cursor attr-dict";
}

def Cta_FillOp : CtaOp<"fill", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the producer: waits until the consumers have released the tile, then fills it";
  let description = [{
    With rows `index * rows` and the following of the ring's tensor, as cta.copy_async; with `pad`, of one f32 a query, as
    cta.copy_rows_async; with zeros, whatever the tensor holds, of `zeros`. `full` comes with it, of a ring that carries.
    (C1) a ring and a cursor of as many tiles; (C2) `full` where, and only where, the ring carries.
  }];
  let arguments = (ins Cta_Ring:$ring, Cta_Cursor:$cursor, I32:$batch, I32:$head, I32:$index, Optional<I1>:$full,
                   OptionalAttr<F32Attr>:$pad, UnitAttr:$zeros);
  let assemblyFormat = [{
    $ring `at` $cursor `from` `[` $batch `,` $head `]` `rows` $index (`full` $full^)? (`pad` $pad^)? (`zeros` $zeros^)?
    attr-dict
  }];
  let hasVerifier = 1;
}

def Cta_AcquireOp : CtaOp<"acquire", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the consumers: the tile, once it is full";
  let description = "(C1) the tile is one of the ring's, which has as many as the cursor counts.";
  let arguments = (ins Cta_Ring:$ring, Cta_Cursor:$cursor);
  let results = (outs Cta_Shared:$result);
  let assemblyFormat = "$ring `at` $cursor attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Cta_CarriedOp : CtaOp<"carried", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the consumers, of a tile that they hold: which one it is, and whether every pair of it is kept and in bounds";
  let description = "(C1) a ring that carries, of as many tiles as the cursor counts.";
  let arguments = (ins Cta_Ring:$ring, Cta_Cursor:$cursor);
  let results = (outs I32:$index, I1:$full);
  let assemblyFormat = "$ring `at` $cursor attr-dict";
  let hasVerifier = 1;
}

def Cta_ReleaseOp : CtaOp<"release", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the consumers: this warp has read the tile";
  let description = "`after`: not before these numbers are there, whatever a compiler would rather do.";
  let arguments = (ins Cta_Ring:$ring, Cta_Cursor:$cursor, Optional<Fragment>:$after);
  let assemblyFormat = "$ring `at` $cursor (`after` $after^ `:` type($after))? attr-dict";
}

def Cta_RolesOp : CtaOp<"roles", [NoTerminator, NoRegionArguments]> {
  let summary = "parts the warps of a block: one warpgroup more than cta.warps produces, the others consume";
  let description = [{
    Barriers inside are of the consumers alone. The two meet by rings, in the order of the text: the n-th tile that the
    producer fills is the n-th that consumers acquire. A block that is done with a program takes the next one that none
    has taken: both roles are loops over programs, but for their cursors, and the producer may be a program ahead.
    `numbers`: where in shared memory the numbers of that program and those of cta.give are, and their mbarriers.
  }];
  let arguments = (ins OptionalAttr<I64Attr>:$numbers);
  let regions = (region SizedRegion<1>:$producer, SizedRegion<1>:$consumers);
  let assemblyFormat = "(`numbers` $numbers^)? `producer` $producer `consumers` $consumers attr-dict";
  let extraClassDeclaration = [{
    /// Numbers that are on their way: of the next program; of cta.give.
    static constexpr int64_t programsAhead = 1, givenAhead = 1;
    static constexpr int64_t numberBytes() {
      return (programsAhead + givenAhead) * (RingOp::bytesOfWord + 2 * RingOp::bytesOfBarrier);
    }
  }];
}

def Cta_GiveOp : CtaOp<"give", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the producer: a number for the consumers, which take (cta.take) as many, in the same order";
  let description = "Of 32 bits.";
  let arguments = (ins I64:$number);
  let assemblyFormat = "$number attr-dict";
}

def Cta_TakeOp : CtaOp<"take", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "of the consumers: the next number of cta.give";
  let results = (outs I64:$number);
  let assemblyFormat = "attr-dict";
}

def Cta_TakeTurnOp : CtaOp<"take_turn", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits until it is this warpgroup's turn among those that consume; the first one's is at the beginning";
  let assemblyFormat = "attr-dict";
}

def Cta_PassTurnOp : CtaOp<"pass_turn", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "gives the turn to the next warpgroup, the last one's to the first";
  let assemblyFormat = "attr-dict";
}

// ---- products --------------------------------------------------------------------------------

def Cta_MmaOp : CtaOp<"mma", [MemoryEffects<[MemRead]>]> {
  let summary = "a product of tiles, by one kind of instruction, added to `acc` where given";
  let description = [{
    Forms are those of tile.dot. Of nt and tn both sides are in shared memory; of nn the left side is in registers.
    `async`, of warpgroups: it goes on beside what follows; nothing that it reads is written, and its result is only waited
    for (cta.wait_mma).
    (C1) sides are where the form wants them; (C2) shapes agree with the form; (C3) elements in shared memory are the kind's;
    (C4) so is their layout; (C5) only products of warpgroups are async.
  }];
  let arguments = (ins Cta_MmaKind:$kind, Tile_DotForm:$form, AnyTypeOf<[Fragment, Cta_Shared]>:$lhs, Cta_Shared:$rhs,
                   Optional<Fragment>:$acc, UnitAttr:$async);
  let results = (outs Fragment:$result);
  let assemblyFormat = [{
    $kind $form (`async` $async^)? $lhs `,` $rhs (`add` $acc^ `:` type($acc))? attr-dict `:` type($lhs) `,` type($rhs) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Cta_WaitMmaOp : CtaOp<"wait_mma", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits for async products of this warpgroup; gives those named, as they are then";
  let description = [{
    Until all but the last `left` groups are done: a product is a group for each 64 rows of a warpgroup.
    (C1) it names async products; (C2) results are of their types.
  }];
  let arguments = (ins Variadic<Fragment>:$products, DefaultValuedAttr<I64Attr, "0">:$left);
  let results = (outs Variadic<Fragment>:$results);
  let assemblyFormat = "$products (`left` $left^)? attr-dict `:` type($products) `->` type($results)";
  let hasVerifier = 1;
}

// ---- tensors in memory -----------------------------------------------------------------------

def Cta_RowDotOp : CtaOp<"row_dot", [MemoryEffects<[MemRead]>]> {
  let summary = "the dot products of equal rows of two tensors, from where they are";
  let description = "Each is read once: `columns` elements of every row. Rows past the end give zero times a row that exists.";
  let arguments = (ins FlatSymbolRefAttr:$lhs, FlatSymbolRefAttr:$rhs, I32:$batch, I32:$head, I32:$index, I64Attr:$columns);
  let results = (outs Fragment:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs `[` $batch `,` $head `]` `rows` $index `columns` $columns attr-dict `:` type($result)
  }];
}

def Cta_AddRowsOp : CtaOp<"add_rows", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "adds a tile to rows of an f32 [B, heads, rows, columns] tensor; see tile.dot_into";
  let description = "`pairs`: atomic sums of two neighbouring columns at once, where rows begin at even elements: sm_90.";
  let arguments = (ins Fragment:$tile, UnitAttr:$atomic, UnitAttr:$pairs, FlatSymbolRefAttr:$tensor, I32:$batch,
                   I32:$head, I32:$index);
  let assemblyFormat = "$tile (`atomic` $atomic^)? (`pairs` $pairs^)? `into` $tensor `[` $batch `,` $head `]` `rows` $index attr-dict `:` type($tile)";
}

// ---- loops over kept tiles -------------------------------------------------------------------

def Cta_KeptTilesOp : CtaOp<"kept_tiles", [MemoryEffects<[MemRead]>]> {
  let summary = "which tiles a row of tiles keeps; see tile.for";
  let arguments = (ins Tile_Range:$over, I32:$batch, I32:$head, I32:$start, ArrayAttr:$plan,
                   DefaultValuedStrAttr<StrAttr, "S">:$keyDim);
  let results = (outs Cta_KeptTiles:$result);
  let assemblyFormat = "$over `[` $batch `,` $head `]` `of` $start `kept` $plan attr-dict";
}

def Cta_TurnsOp : CtaOp<"turns", [Pure]> {
  let summary = "the first turn of the loop over kept tiles, and the one after the last";
  let arguments = (ins Cta_KeptTiles:$tiles);
  let results = (outs I64:$from, I64:$to);
  let assemblyFormat = "$tiles attr-dict";
}

def Cta_TurnOp : CtaOp<"turn", [MemoryEffects<[MemRead]>]> {
  let summary = "the tile of a turn, and whether every pair of it is kept and in bounds";
  let arguments = (ins Cta_KeptTiles:$tiles, I64:$at);
  let results = (outs I32:$index, I1:$full);
  let assemblyFormat = "$at `of` $tiles attr-dict";
}

#endif
