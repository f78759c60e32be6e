#include "models/nccl_backend.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

namespace weft {

c10::intrusive_ptr<c10d::Backend> makeNcclBackend(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size) {
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size);
}

}  // namespace weft
