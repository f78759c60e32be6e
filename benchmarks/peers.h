// What generated kernels are measured against. A peer that cannot do something says so: that becomes its row.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "ops/sample_inputs.h"

namespace weft::bench {

/// One call to compare: a variant on sample inputs, in one direction.
struct Case {
  std::string variant;
  ops::SampleShape shape;
  std::string type = "f32";  ///< f32, bf16, f16
  bool backward = false;
  int64_t span = 0;  ///< see ops::sampleInputs
  std::string device = "cpu";
};

class Peer {
 public:
  virtual ~Peer() = default;
  /// Gets ready for a case, checking where it can that its output is that of `want`. Gives the empty string, or why
  /// it cannot.
  virtual std::string prepare(const Case &work, const ops::SampleInputs &inputs, const torch::Tensor &want) = 0;
  /// Seconds of one pass. Throws std::exception where it fails.
  virtual double seconds() = 0;
  /// Frees what the case needed.
  virtual void release() = 0;
};

/// What a peer in a process of its own is waited for.
struct Patience {
  double seconds = 300;        ///< for an answer: compiling, or a pass
  std::function<bool()> stop;  ///< asked meanwhile
};

/// "sdpa": torch scaled_dot_product_attention, causal by its own flag and other masks as a T x S bias made beforehand;
/// "math": its parts as tensor operations; "flex": compiled FlexAttention, and "triton": Triton's tutorial kernel where
/// it is installed, both in a Python process of their own: one that dies or does not answer in time is ended with all
/// it started, and after the second time not begun again. Throws std::runtime_error for another name.
std::unique_ptr<Peer> makePeer(const std::string &name, const Patience &patience = {});

/// The interpreter for peers and reports: WEFT_PYTHON, else the one this was configured with, else python3.
std::string pythonProgram();

/// Waits for a GPU.
void synchronize(torch::Device device);

}  // namespace weft::bench
