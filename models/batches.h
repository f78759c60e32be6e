// The batches of a training, made while the step before computes.
#pragma once

#include <future>
#include <utility>

#include <torch/types.h>

#include "models/data.h"

namespace weft {

class Batches {
 public:
  /// Of places in `text`, uint8 [bytes]: see sampleRows.
  Batches(const torch::Tensor &text, Rows rows, int64_t context, uint64_t seed, torch::Device device);

  /// Inputs and targets int64 [rows.count, context] of batch `number`, on the device. The next one is begun on a thread
  /// of its own; for a GPU in memory that it copies from by itself.
  std::pair<torch::Tensor, torch::Tensor> take(int64_t number);

 private:
  using Batch = std::pair<torch::Tensor, torch::Tensor>;
  const torch::Tensor text;
  const Rows rows;
  const int64_t context;
  const uint64_t seed;
  const torch::Device device;
  int64_t coming = -1;  ///< the number of `next`
  std::future<Batch> next;

  Batch make(int64_t number) const;
};

}  // namespace weft
