// What a variant and a list of names say of every call that has them, found once a thread: calls repeat. Where dims
// count terms, of every call with these sizes of them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <c10/util/SmallVector.h>

#include "ops/binding.h"

namespace weft::ops {

/// Numbers that a call's kernels hang on.
using CallNumbers = c10::SmallVector<int64_t, 16>;

struct CallSite {
  std::string text;  ///< as the caller names the variant
  bool lasting;      ///< a text or a name of the library: no file that may be edited
  Signature signature;
  std::shared_ptr<CallSite> placed;  ///< of the text with the parameter `origin`, where calls here give one
  /// Kernels that calls here have had.
  std::vector<std::pair<CallNumbers, KernelSet *>> sets;

  const Variant &variant() const { return *signature.variant; }
};

/// Belongs to the calling thread. Throws c10::Error for names or variants that are wrong.
std::shared_ptr<CallSite> callSite(c10::string_view variant, const c10::List<std::string> &names,
                                   at::TensorList tensors);

/// A call, checked, with its kernels: in tuned schedules where the cache has them and in default ones else.
Binding bindCall(CallSite &site, at::TensorList tensors, bool backward);
Binding bindCall(const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors,
                 bool backward);
/// With WEFT_TUNE=1: called once for each key that has no tuned schedule, before its first kernel is compiled.
using Tuner = void (*)(const std::string &variant, const std::vector<std::string> &names, at::TensorList tensors,
                       bool backward);
void setTuner(Tuner tuner);

}  // namespace weft::ops
