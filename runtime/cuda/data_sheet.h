// What NVIDIA's data sheets say of GPUs: dense products (half of what they print where that is with sparsity), at boost
// clock.
#pragma once

#include <string>

namespace weft::cuda {

struct DataSheet {
  const char *name;  ///< as the driver names it, after "NVIDIA "
  const char *product;
  double bf16, f16, tf32, f32;  ///< TFLOP/s of products with sums of f32; f32: without tensor cores
  double gigabytes;             ///< GB/s of memory
};

/// The sheet of the GPU that the driver names so, or nullptr.
const DataSheet *dataSheet(const std::string &name);

}  // namespace weft::cuda
