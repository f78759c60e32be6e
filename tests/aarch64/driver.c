// Runs a generated kernel for a process of another architecture: memory and arguments come on standard input, and the
// memory goes back on standard output. Linked with the kernel's object file, which calls it weft_kernel.
//
// Input, in 64-bit words: first program, end, bytes of scratch, how many arguments, regions and ranges; the arguments;
// the regions that are to be mapped, each its address and its bytes, no two in one page; the ranges of what lies in
// them, likewise; then the bytes of the ranges. Output: the bytes of the ranges.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

extern void weft_kernel(int64_t *slots, int64_t begin, int64_t end, void *scratch);

enum { page = 1 << 16 };

static void check(int holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "driver: %s\n", what);
  exit(1);
}

static void *room(int64_t bytes) {
  void *memory = aligned_alloc(64, (bytes + 127) / 64 * 64);
  check(memory != NULL, "out of memory");
  return memory;
}

static void receive(void *to, int64_t bytes) {
  check(fread(to, 1, bytes, stdin) == (size_t)bytes, "the input ends too early");
}

int main(void) {
  int64_t head[6];
  receive(head, sizeof head);
  const int64_t ranges = head[5];
  int64_t *arguments = room(8 * head[3]), *range = room(16 * ranges);
  receive(arguments, 8 * head[3]);
  for (int64_t left = head[4]; left > 0; --left) {
    int64_t region[2];
    receive(region, sizeof region);
    const uint64_t first = region[0] / page * page;
    void *memory = mmap((void *)first, region[0] - first + region[1], PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    check(memory == (void *)first, "memory cannot be mapped where it has to be");
  }
  receive(range, 16 * ranges);
  for (int64_t at = 0; at < ranges; ++at) receive((void *)range[2 * at], range[2 * at + 1]);
  // Denormal numbers as zeros, as in runtime/cpu/denormals.h.
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  __asm__ volatile("msr fpcr, %0" ::"r"(control | (uint64_t)1 << 24));
  weft_kernel(arguments, head[0], head[1], room(head[2]));
  for (int64_t at = 0; at < ranges; ++at)
    check(fwrite((void *)range[2 * at], 1, range[2 * at + 1], stdout) == (size_t)range[2 * at + 1], "nobody reads");
  check(fflush(stdout) == 0, "nobody reads");
  return 0;
}
