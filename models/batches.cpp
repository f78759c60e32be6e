#include "models/batches.h"

namespace weft {

Batches::Batches(const torch::Tensor &text, Rows rows, int64_t context, uint64_t seed, torch::Device device)
    : text(text), rows(rows), context(context), seed(seed), device(device) {}

Batches::Batch Batches::make(int64_t number) const {
  Batch batch = sampleRows(text, rows, context, seed, static_cast<uint64_t>(number));
  if (device.is_cuda()) batch = {batch.first.pin_memory(), batch.second.pin_memory()};
  return batch;
}

Batches::Batch Batches::take(int64_t number) {
  // A resumed run begins anywhere.
  Batch batch = coming == number ? next.get() : make(number);
  coming = number + 1;
  next = std::async(std::launch::async, [this, number = coming] { return make(number); });
  return {batch.first.to(device, /*non_blocking=*/true), batch.second.to(device, /*non_blocking=*/true)};
}

}  // namespace weft
