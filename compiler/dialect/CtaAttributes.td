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
  I32EnumAttrCase<"TF32x3", 2, "m16n8k8_3xtf32">,  // f32 by three products of tf32
  I32EnumAttrCase<"WgmmaBF16", 3, "m64k16_bf16">,
  I32EnumAttrCase<"WgmmaF16", 4, "m64k16_f16">
]>;

// ---- layouts ---------------------------------------------------------------------------------

def Cta_MmaSync : AttrDef<CtaDialect, "MmaSync"> {
  let summary = "how a tile lies in registers: as the accumulators of mma.m16n8";
  let description = [{
    Warp w holds the blocks of 16 rows w, w + warps, ...; in a block the thread with lane = 4 g + t holds, of each 8 columns,
    the elements (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1). A number of each row lies with its row: all four threads
    of a row hold it.

    `tensor<64x64xf32, #cta.mma_sync<warps = 4>>`

    Four warps are a warpgroup, and the 64 rows of their blocks lie as the accumulators of wgmma.m64.
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

def Cta_Swizzled : AttrDef<CtaDialect, "Swizzled"> {
  let summary = "how a tile lies in shared memory: as wgmma reads it and TMA would write it, swizzled by 128 bytes";
  let description = [{
    In panels of 128 bytes a row, one panel after another, each row after row; of row r the 16-byte chunk c of a panel is at
    chunk c xor r mod 8, so that eight rows of a chunk, and eight chunks of a row, fall into different banks. Columns past
    the tile's last, up to a whole step of a product, are zero; nobody reads those after them. A tile begins at a multiple
    of 1,024 bytes (PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout").
  }];
  let mnemonic = "swizzled";
  let extraClassDeclaration = [{
    static constexpr int64_t panelBytes = 128, alignment = 1024;
  }];
}

// ---- types -----------------------------------------------------------------------------------

def Cta_Shared : TypeDef<CtaDialect, "Shared"> {
  let summary = "a tile in shared memory, or, with a leading dim, several";
  let description = "`!cta.shared<2x64x64xbf16, #cta.padded<pitch = 144>>`: two tiles of 64 rows of 64 elements.";
  let mnemonic = "shared";
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::mlir::Type":$element, "::mlir::Attribute":$layout);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// Rows and columns of one tile.
    int64_t rows() const { return getShape().take_back(2)[0]; }
    int64_t columns() const { return getShape().back(); }
    /// How many tiles: 1 without a leading dim.
    int64_t stages() const { return getShape().size() == 3 ? getShape()[0] : 1; }
    bool isSwizzled() const { return ::mlir::isa<SwizzledAttr>(getLayout()); }
    /// Of a tile that is not swizzled.
    int64_t pitch() const { return ::mlir::cast<PaddedAttr>(getLayout()).getPitch(); }
    /// Of all rows, 128 bytes each, of a tile that is.
    int64_t panelBytes() const { return rows() * SwizzledAttr::panelBytes; }
    int64_t tileBytes() const;
    int64_t bytes() const { return stages() * tileBytes(); }
    /// The type of one of the tiles; and of a buffer of so many of them.
    SharedType stage() const;
    SharedType several(int64_t stages) const;
  }];
}

def Cta_Token : TypeDef<CtaDialect, "Token"> {
  let summary = "a copy that is on its way";
  let mnemonic = "token";
}

def Cta_Ring : TypeDef<CtaDialect, "Ring"> {
  let summary = "tiles that some warps fill and others read, one after another";
  let mnemonic = "ring";
}

def Cta_Cursor : TypeDef<CtaDialect, "Cursor"> {
  let summary = "how far the threads of a role have come along rings";
  let mnemonic = "cursor";
}

def Cta_KeptTiles : TypeDef<CtaDialect, "KeptTiles"> {
  let summary = "the kept tiles of one row of tiles";
  let mnemonic = "kept_tiles";
}

#endif
