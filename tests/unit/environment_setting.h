// Numbers that repeat and extend a fuzzing run: WEFT_FUZZ_SEED, WEFT_FUZZ_COUNT.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace weft::testing {

inline uint64_t setting(const char *name, uint64_t otherwise) {
  const char *value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

}  // namespace weft::testing
