// NCCL as a backend of torch's process groups, where torch has it. Private to process_group.cpp: it shows c10d.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace weft {

/// Null where this weft was built without NCCL.
c10::intrusive_ptr<c10d::Backend> makeNcclBackend(const c10::intrusive_ptr<c10d::Store> &store, int rank, int size);

}  // namespace weft
