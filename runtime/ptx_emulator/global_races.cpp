#include "runtime/ptx_emulator/global_races.h"

#include <algorithm>
#include <atomic>

namespace weft::ptx {

GlobalRaces::GlobalRaces(const std::vector<MemoryRange> &memory) {
  // From calloc: pages that no block touches take no memory.
  for (const MemoryRange &range : memory) {
    if (range.bytes > largestTracked) {
      ranges.push_back({range.begin, nullptr});
      continue;
    }
    const size_t count = static_cast<size_t>(std::max<int64_t>(range.bytes, 0)) / 4 + 2;
    auto *words = static_cast<Word *>(std::calloc(count, sizeof(Word)));
    if (!words) throw std::bad_alloc();
    ranges.push_back({range.begin & ~uint64_t{3}, std::unique_ptr<Word[], Free>(words)});
  }
}

std::string GlobalRaces::note(Access access, int64_t block, size_t range, uint64_t address, int bytes) {
  if (!ranges[range].words) return {};
  static const char *const did[] = {"reads", "writes", "adds to"};
  const uint32_t own = static_cast<uint32_t>(std::min<int64_t>(block + 1, several - 1));
  for (uint64_t at = address; at < address + bytes;) {
    Word &word = ranges[range].words[(at - ranges[range].begin) / 4];
    const int first = static_cast<int>(at % 4),
              count = static_cast<int>(std::min<uint64_t>(4 - first, address + bytes - at));
    const uint32_t mask = ((1u << count) - 1) << first;
    at += count;
    for (int other = Read; other <= Atomic; ++other) {
      if (access == other && access != Write) continue;
      const uint32_t seen = std::atomic_ref(word.by[other]).load(std::memory_order_relaxed);
      const uint32_t who = seen >> 4;
      if ((seen & mask) && who != own && who != unknown)
        return "race: " + (who == several ? "another block" : "block " + std::to_string(who - 1)) + " " + did[other] +
               " what this one " + did[access] + ", in one launch";
    }
    std::atomic_ref mine(word.by[access]);
    const uint32_t before = mine.load(std::memory_order_relaxed), who = before >> 4;
    const bool whole = mask == 15 && (before & 15) == 15 && who != unknown;
    const uint32_t after = (who == 0 || who == own ? own : whole ? several : unknown) << 4 | (before & 15) | mask;
    if (after != before) mine.store(after, std::memory_order_relaxed);
  }
  return {};
}

}  // namespace weft::ptx
