#include "runtime/device_backend.h"

#include <algorithm>
#include <limits>

namespace weft {
namespace {

/// Compute capability, 10 times major and minor, and KiB of shared memory a block may opt in to.
constexpr struct {
  int capability, sharedKiB;
} architectures[] = {{80, 163},  {86, 99},   {87, 163},  {89, 99},  {90, 227},
                     {100, 227}, {103, 227}, {110, 227}, {120, 99}, {121, 99}};

}  // namespace

std::vector<int> knownCapabilities() {
  std::vector<int> all;
  for (const auto &known : architectures) all.push_back(known.capability);
  return all;
}

DeviceLimits limitsOfArchitecture(int major, int minor) {
  int kiB = std::numeric_limits<int>::max();
  for (const auto &known : architectures) {
    if (known.capability == 10 * major + minor) {
      kiB = known.sharedKiB;
      break;
    }
    kiB = std::min(kiB, known.sharedKiB);
  }
  return {int64_t{1024} * kiB, std::numeric_limits<int32_t>::max(), 1024, 65536};
}

EmulatorReport &EmulatorReport::operator+=(const EmulatorReport &other) {
  instructions += other.instructions;
  mma += other.mma;
  ldmatrix += other.ldmatrix;
  barriers += other.barriers;
  sharedBytes += other.sharedBytes;
  globalBytes += other.globalBytes;
  sharedAccesses += other.sharedAccesses;
  bankConflicts += other.bankConflicts;
  return *this;
}

}  // namespace weft
