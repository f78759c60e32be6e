#include "runtime/ptx_emulator/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "runtime/ptx_emulator/machine.h"

namespace weft::ptx {

void SharedMemory::reset(int64_t bytes) {
  values.assign(bytes, 0);
  states.assign(bytes, 0);
  writers.assign(bytes, 0);
  readers.assign(bytes, 0);
  stores.assign(bytes, 0);
  arrived.clear();
  epoch = 1;
  storeNumber = 0;
}

void SharedMemory::check(const Warp &warp, int lane, uint64_t address, int bytes) const {
  if (address % bytes)
    warp.fail("misaligned access of " + std::to_string(bytes) + " bytes at shared address " + hex(address), lane);
  if (address > values.size() || static_cast<uint64_t>(bytes) > values.size() - address)
    warp.fail("access outside shared memory of " + std::to_string(values.size()) + " bytes, at shared address " +
                  hex(address),
              lane);
  warp.block.report.sharedBytes += bytes;
}

uint64_t SharedMemory::read(const Warp &warp, int lane, uint64_t address, int bytes) {
  check(warp, lane, address, bytes);
  const uint32_t now = epoch << 6, own = now | static_cast<uint32_t>(warp.number);
  for (uint64_t at = address; at < address + bytes; ++at) {
    const uint8_t state = states[at];
    if (state & Pending) warp.fail("read of shared memory at " + hex(at) + " that a cp.async has not delivered", lane);
    if (!(state & Defined)) warp.fail("read of shared memory at " + hex(at) + " that was never written", lane);
    if (writers[at] >= now && writers[at] != own)
      warp.fail("race: warp " + std::to_string(writers[at] & 63) + " wrote shared address " + hex(at) +
                    " and no barrier lies between",
                lane);
    if ((state & Arrived) && (state & Lane) != lane)
      warp.fail("read of shared memory at " + hex(at) + " that a cp.async of thread " +
                    std::to_string(32 * warp.number + (state & Lane)) +
                    " has delivered to that thread alone: no barrier lies between",
                lane);
    readers[at] = readers[at] >= now && readers[at] != own ? now | many : own;
  }
  uint64_t value = 0;
  std::memcpy(&value, &values[address], bytes);
  return value;
}

void SharedMemory::beginStore() {
  if (++storeNumber == 0) {  // all around: no number is older than another
    std::fill(stores.begin(), stores.end(), 0);
    storeNumber = 1;
  }
}

/// The bytes become the warp's, if nobody else uses them.
void SharedMemory::claim(const Warp &warp, int lane, uint64_t address, int bytes) {
  check(warp, lane, address, bytes);
  const uint32_t now = epoch << 6, own = now | static_cast<uint32_t>(warp.number);
  for (uint64_t at = address; at < address + bytes; ++at) {
    if (writers[at] >= now && writers[at] != own)
      warp.fail("race: warp " + std::to_string(writers[at] & 63) + " too wrote shared address " + hex(at) +
                    " and no barrier lies between",
                lane);
    if (stores[at] == storeNumber)
      warp.fail("race: two threads of the warp write shared address " + hex(at) + " at once", lane);
    if (readers[at] >= now && readers[at] != own)
      warp.fail("race: another warp reads shared address " + hex(at) + " and no barrier lies between", lane);
    if (states[at] & Pending)
      warp.fail("write to shared address " + hex(at) + " while a cp.async to it is under way", lane);
    writers[at] = own;
    stores[at] = storeNumber;
  }
}

void SharedMemory::write(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  claim(warp, lane, address, bytes);
  std::memcpy(&values[address], value, bytes);
  std::memset(&states[address], Defined, bytes);
}

void SharedMemory::expect(const Warp &warp, int lane, uint64_t address, int bytes) {
  claim(warp, lane, address, bytes);
  std::memset(&states[address], Pending, bytes);
}

void SharedMemory::deliver(const Warp &warp, int lane, uint64_t address, int bytes, const void *value) {
  std::memcpy(&values[address], value, bytes);
  std::memset(&states[address], Defined | Arrived | lane, bytes);
  std::fill_n(&writers[address], bytes, epoch << 6 | static_cast<uint32_t>(warp.number));
  arrived.push_back({warp.number, address, bytes});
}

void SharedMemory::barrier() {
  for (const Range &range : arrived)
    for (int at = 0; at < range.bytes; ++at)
      if (states[range.address + at] & Arrived) states[range.address + at] = Defined;
  arrived.clear();
  if (++epoch == 1u << 26) {
    std::fill(writers.begin(), writers.end(), 0);
    std::fill(readers.begin(), readers.end(), 0);
    epoch = 1;
  }
}

void SharedMemory::warpBarrier(int warp) {
  std::erase_if(arrived, [&](const Range &range) {
    if (range.warp != warp) return false;
    for (int at = 0; at < range.bytes; ++at)
      if (states[range.address + at] & Arrived) states[range.address + at] = Defined;
    return true;
  });
}

}  // namespace weft::ptx
