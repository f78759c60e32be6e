// In place of nccl_backend.cpp where torch has no NCCL: Gloo then carries the tensors of GPUs.
#include "models/nccl_backend.h"

namespace weft {

c10::intrusive_ptr<c10d::Backend> makeNcclBackend(const c10::intrusive_ptr<c10d::Store> &, int, int) { return {}; }

}  // namespace weft
