// What a variant is and what is made of it, as texts: for people, at the terminal and in Python.
//
//   torch.ops.weft.library() -> names of the library's variants
//   torch.ops.weft.describe(variant) -> JSON: its inputs, sets of keys, what it has
//   torch.ops.weft.emit(variant, stage, target, kernel, dtype, head_dim, terms) -> the text of a stage
//   torch.ops.weft.explain(variant, names, tensors) -> JSON: kept tiles, schedules, kernels and plans of a call
//   torch.ops.weft.mask_shares(variant, names, tensors) -> [H, T, S], see maskShares in ops/attention.h
#pragma once

#include <string>

#include "compiler/compiler.h"

namespace weft::ops {

/// The variant with one size for all dims that count terms (compiler/terms.h): calls of tensors have their own.
std::shared_ptr<const Variant> variantWithTerms(const std::string &variant, int64_t terms);

/// The names of the stages: ast, weft, tile, llvm; of a CPU vector, asm, obj; of a GPU nvvm, ptx, cubin, sass; plan.
const std::vector<std::string> &stageNames();

/// The text (obj, cubin: the bytes) of a stage of one kernel; `request.stage` is taken from `stage`. `note` gets what
/// ptxas said of registers, where it ran. Throws std::runtime_error with the compiler's words.
std::string stageText(CompileRequest request, const std::string &stage, std::string &note);

}  // namespace weft::ops
