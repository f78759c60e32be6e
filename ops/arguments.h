// A call's tensors against the signature of its variant: the one check that computing, shapes alone (meta tensors),
// gradients, selection and decoding go through.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "compiler/call_plan.h"
#include "compiler/origin.h"

namespace weft::ops {

/// Where `name` stands in a list; -1: nowhere.
int find(const std::vector<std::string> &list, const std::string &name);

/// findVariant (see variant_library.h), its errors as c10::Error.
std::shared_ptr<const Variant> variantOrThrow(c10::string_view variant);
/// The same, as a call with these tensors computes it: see sourceOfCall.
std::shared_ptr<const Variant> variantOfCall(c10::string_view variant, const std::vector<std::string> &names,
                                             at::TensorList tensors);

/// What the names of a call's tensors say, whatever the tensors are.
struct Signature {
  /// Checks the names, and that there are as many tensors. Throws c10::Error.
  Signature(std::shared_ptr<const Variant> variant, std::vector<std::string> names, size_t tensors);

  std::shared_ptr<const Variant> variant;
  std::vector<std::string> names;
  std::vector<int> places;                     ///< of each input of the variant among the tensors
  int seed = -1, selection = -1, origin = -1;  ///< places of these; below 0: not given
  int queries = -1;                            ///< place of the first rows of queries; below 0: there are none
  std::vector<std::string> dims;               ///< dimNames
  std::vector<std::vector<int>> inputDims;     ///< of each input: positions in `dims`
  std::vector<int> headDims;                   ///< those that rows end in, in the order of their names
  std::vector<int> termDims;                   ///< those that count terms (compiler/terms.h)

  /// True where a call computes another text than the variant's: see sourceOfCall.
  bool isOpen() const { return !termDims.empty() || (origin >= 0 && !hasOrigin(*variant)); }
};

/// What a call's tensors say. Sizes may be symbols, of meta tensors; what needs a number is then not checked.
struct Arguments {
  const Signature *signature;
  std::vector<c10::SymInt> sizes;  ///< of the signature's dims; -1: of no input
  at::ScalarType type;             ///< of rows

  const c10::SymInt &size(const std::string &dim) const;
};

/// Checks devices, shapes and types of all tensors. The signature outlives what it gives. Throws c10::Error naming the
/// input and what was expected of it.
Arguments checkArguments(const Signature &signature, at::TensorList tensors);

/// How many numbers of f32 a forward pass keeps of each query for the backward pass: those of Variant::keptRows.
int64_t rowsKept(const Variant &variant);

/// Checks what a backward pass gets beside the arguments; `rows`, [rowsKept, B, H, T], comes from the forward pass.
void checkGradients(const Arguments &arguments, at::TensorList tensors, const at::Tensor &o, const at::Tensor &rows,
                    const at::Tensor &dO, const std::optional<at::Tensor> &dLse);

/// The text of the variant that a call computes, of a signature that is open: with the sizes of dims that count terms
/// in their places, and with the parameter `origin` where the call gives one.
std::string sourceOfCall(const Signature &signature, at::TensorList tensors);

/// Shape of the map of chosen tiles of a variant that selects any.
std::vector<c10::SymInt> selectionShape(const Arguments &arguments);

/// A seed and an offset for dropout, int64 [2], from torch's generator of the device, and there: nothing is waited for,
/// and a captured graph draws anew at each replay.
at::Tensor drawnSeed(const at::Device &device);

/// Integers as the kernels read them, contiguous and of 32 bits. What these do not hold is an error that names `what`
/// ("weft: ... input 'doc'") and the value; on a GPU, where looking would mean waiting, the nearest that they hold,
/// unless WEFT_CHECK is set.
at::Tensor as32Bits(const at::Tensor &tensor, const std::function<std::string()> &what);

/// Of rows.
ElementType elementType(at::ScalarType type);
at::ScalarType torchType(ElementType type);
/// The type of the floats of a call that are no rows, and of what a row of results keeps: float32, beside float64 that.
at::ScalarType floatsBeside(at::ScalarType rows);

}  // namespace weft::ops
