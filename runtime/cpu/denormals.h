// Denormal numbers as zeros while a kernel runs: probabilities that fade out would slow its products down tenfold.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace weft::cpu {

/// For this thread, until it goes out of scope.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : saved(_mm_getcsr()) { _mm_setcsr(saved | 0x8040); }  // results (FTZ) and operands (DAZ)
  ~FlushDenormals() { _mm_setcsr(saved); }

 private:
  unsigned saved;
#elif defined(__aarch64__)
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved));
    asm volatile("msr fpcr, %0" ::"r"(saved | (uint64_t{1} << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved)); }

 private:
  uint64_t saved;
#else
  FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals &) = delete;
};

}  // namespace weft::cpu
