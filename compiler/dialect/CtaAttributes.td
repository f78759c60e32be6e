// Attributes and types of the `cta` dialect.
#ifndef CTA_ATTRIBUTES_TD
#define CTA_ATTRIBUTES_TD

include "compiler/dialect/CtaDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class CtaEnum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::weft::cta";
}

def Cta_MmaKind : CtaEnum<"MmaKind", "an instruction that multiplies matrices", [
  I32EnumAttrCase<"BF16", 0, "m16n8k16_bf16">,
  I32EnumAttrCase<"F16", 1, "m16n8k16_f16">,
  I32EnumAttrCase<"TF32x3", 2, "m16n8k8_3xtf32">  // f32 by three products of tf32
]>;

// ---- layouts ---------------------------------------------------------------------------------

def Cta_MmaSync : AttrDef<CtaDialect, "MmaSync"> {
  let summary = "how a tile lies in registers: as the accumulators of mma.m16n8";
  let description = [{
    Warp w holds the blocks of 16 rows w, w + warps, ...; in a block the thread with lane = 4 g + t holds, of each 8 columns,
    the elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). A number of each row lies with its row: all four threads
    of a row hold it.

    `tensor<64x64xf32, #cta.mma_sync<warps = 4>>`
    (C1) a tile has whole blocks for each warp, in rows.
  }];
  let mnemonic = "mma_sync";
  let parameters = (ins "int64_t":$warps);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Cta_Padded : AttrDef<CtaDialect, "Padded"> {
  let summary = "how a tile lies in shared memory: row after row, `pitch` bytes apart";
  let description = [{
    The pitch is an odd number of 16-byte chunks, so that the eight rows that ldmatrix reads at once fall into different
    banks. Columns past the tile's last, up to a whole step of a product, are zero.
  }];
  let mnemonic = "padded";
  let parameters = (ins "int64_t":$pitch);
  let assemblyFormat = "`<` struct(params) `>`";
}

// ---- types -----------------------------------------------------------------------------------

def Cta_Shared : TypeDef<CtaDialect, "Shared"> {
  let summary = "a tile in shared memory, or, with a leading dim, several";
  let description = "`!cta.shared<2x64x64xbf16, #cta.padded<pitch = 144>>`: two tiles of 64 rows of 64 elements.";
  let mnemonic = "shared";
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::mlir::Type":$element, "::weft::cta::PaddedAttr":$layout);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// Rows and columns of one tile.
    int64_t rows() const { return getShape().take_back(2)[0]; }
    int64_t columns() const { return getShape().back(); }
    /// How many tiles: 1 without a leading dim.
    int64_t stages() const { return getShape().size() == 3 ? getShape()[0] : 1; }
    int64_t tileBytes() const { return rows() * getLayout().getPitch(); }
    int64_t bytes() const { return stages() * tileBytes(); }
    /// The type of one of the tiles.
    SharedType stage() const;
  }];
}

def Cta_Token : TypeDef<CtaDialect, "Token"> {
  let summary = "a copy that is on its way";
  let mnemonic = "token";
}

def Cta_KeptTiles : TypeDef<CtaDialect, "KeptTiles"> {
  let summary = "the kept tiles of one row of tiles";
  let mnemonic = "kept_tiles";
}

#endif
