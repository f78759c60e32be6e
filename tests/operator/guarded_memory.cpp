// Preloaded (LD_PRELOAD): torch's allocations (posix_memalign) end where an unreadable page begins, and are unreadable
// once freed. What reads or writes a byte past a tensor, or a tensor that is gone, stops the process.
#include <sys/mman.h>
#include <unistd.h>

#include <dlfcn.h>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t page = 4096, room = size_t{1} << 40;  // addresses, not memory; none is used twice

std::atomic<char *> next{nullptr};
char *begin = nullptr;

char *reserve() {
  void *all = mmap(nullptr, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return all == MAP_FAILED ? nullptr : static_cast<char *>(all);
}
const bool ready = [] {
  begin = reserve();
  next = begin;
  return begin != nullptr;
}();

bool isOurs(const void *pointer) { return begin && pointer >= begin && pointer < begin + room; }

/// Before each allocation lies a page that holds its size.
size_t pagesOf(size_t bytes) { return (bytes + page - 1) / page; }

void release(void *pointer) {
  char *first = reinterpret_cast<char *>(reinterpret_cast<uintptr_t>(pointer) / page * page) - page;
  const size_t length = page * (1 + pagesOf(*reinterpret_cast<size_t *>(first)));
  madvise(first, length, MADV_DONTNEED);
  mprotect(first, length, PROT_NONE);
}

template <class Function>
Function original(const char *name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int posix_memalign(void **result, size_t alignment, size_t bytes) noexcept {
  static const auto plain = original<int (*)(void **, size_t, size_t)>("posix_memalign");
  if (!ready || alignment != 64 || bytes == 0) return plain(result, alignment, bytes);
  const size_t pages = pagesOf(bytes);
  char *first = next.fetch_add(static_cast<ptrdiff_t>((pages + 2) * page));
  if (first + (pages + 2) * page > begin + room || mprotect(first, (pages + 1) * page, PROT_READ | PROT_WRITE))
    return ENOMEM;
  *reinterpret_cast<size_t *>(first) = bytes;
  // As far aligned as its size allows: the last byte is the page's last.
  char *own = first + (pages + 1) * page - bytes;
  std::memset(own, 0xff, bytes);  // not a number, of every type
  *result = own;
  return 0;
}

void free(void *pointer) noexcept {
  static const auto plain = original<void (*)(void *)>("free");
  if (isOurs(pointer)) return release(pointer);
  plain(pointer);
}

/// How many allocations were guarded.
size_t weftGuarded() { return next.load() == begin ? 0 : static_cast<size_t>(next.load() - begin) / page; }

}  // extern "C"
