// The programs of a kernel: which tile of which head each is, and what the runtime is told of them.
#pragma once

#include "compiler/compiler.h"
#include "compiler/target/tensors.h"

namespace weft::target {

class ProgramGrid {
 public:
  /// Code at the insertion point counts the programs; it dominates what `bind` emits.
  ProgramGrid(Emitter &emit, KernelArguments &slots, tile::KernelOp kernel);

  Value programs();  ///< how many there are, i64
  /// Binds the kernel's coordinates to those of program `p` (i64). Tiles of queries run from the last, the longest rows
  /// of a causal variant, to the first.
  void bind(Value p, llvm::DenseMap<Value, Value> &scalars);
  /// The image's part that is the same on every target.
  KernelImage image(llvm::StringRef entry);

 private:
  Emitter &emit;
  KernelArguments &slots;
  tile::KernelOp kernel;
  const bool tiles, queryTiles, headsInner;
  Value heads, rows, count;  ///< of a batch entry; of all; tiles of a row
};

/// "weft_" and the kernel's name as an identifier of every assembler.
std::string entryName(tile::KernelOp kernel);

}  // namespace weft::target
