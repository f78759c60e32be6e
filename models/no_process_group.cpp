// In place of process_group.cpp where torch was built without its distributed part.
#include "models/process_group.h"

namespace weft {

std::unique_ptr<ProcessGroup> joinGroup(const Launch &launch, torch::Device) {
  throw std::runtime_error("WORLD_SIZE=" + std::to_string(launch.size) +
                           ": this weft was built against a torch without torch.distributed and Gloo, so it cannot "
                           "train in several processes; unset WORLD_SIZE, or build it against another torch");
}

}  // namespace weft
