// What a normaliser says of itself: plain data, read by the language, the kernels and the operators alike.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

/// A number of each query that a pair's backward program reads (weft.row).
struct RowState {
  enum class Source {
    Forward,  ///< the forward pass keeps it, in the tensor "row.<name>"
    Delta,    ///< the kernel backward_delta makes it, in the tensor "<name>"
    Keys,     ///< summed up over a row's keys as the backward pass goes through them
  };
  const char *name;
  float fill = 0;  ///< of queries past the end: what gives their pairs a probability of 0
  Source source = Source::Forward;
  bool ofWeights = false;  ///< only where some pair has a weight

  std::string tensor() const { return source == Source::Forward ? std::string("row.") + name : name; }
};

/// How what a query gets of its keys piece by piece becomes what it gets of all of them.
enum class Joining {
  None,       ///< not at all: a row needs all its keys at once
  Sum,        ///< added up
  LogSumExp,  ///< by the log-sum-exp of the pieces; the rows "peak" and "scale" then serve the whole
};

struct NormalizerFacts {
  const char *name;        ///< after `normalize`
  bool logSumExp = false;  ///< has a log-sum-exp to give out, and takes a cotangent of it
  bool sink = false;       ///< takes a `sink`
  bool weight = true;      ///< takes a `weight`
  bool ordered = false;    ///< what a key gets hangs on the keys after it: no lists of keys, no two-pass backward form
  bool delta = false;      ///< the backward pass starts with the kernel backward_delta
  Joining joining = Joining::None;
  int keyPasses = 1;  ///< how many loops over keys the text of its largest kernel has (see language/cost.h)
  std::span<const RowState> rows = {};
};

/// Those of normalizers.def, in its order; the first is what variants have that name none.
std::span<const NormalizerFacts *const> allNormalizers();
/// Null where none is called so.
const NormalizerFacts *normalizerNamed(std::string_view name);

/// The tensors, f32 [B, H, T], that the forward pass writes beside o: first the log-sum-exp (zeros where there is
/// none).
std::vector<std::string> keptRows(const NormalizerFacts &facts, bool weighted);

}  // namespace weft
