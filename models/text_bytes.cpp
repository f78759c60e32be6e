#include "models/text_bytes.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace weft {

torch::Tensor collect(const std::string &path, int64_t expected, int64_t limit, const Read &read) {
  std::unique_ptr<char, decltype(&std::free)> memory(nullptr, &std::free);
  int64_t size = 0, capacity = 0;
  for (;;) {
    if (size == capacity) {
      // One byte of room past the limit shows that there is more. Pages are taken as they are written to.
      capacity = std::min(std::max<int64_t>({expected + 1, capacity + capacity / 2, 1 << 20}), limit + 1);
      char *grown = static_cast<char *>(std::realloc(memory.get(), static_cast<size_t>(capacity)));
      if (!grown) throw std::runtime_error(path + ": no memory for " + std::to_string(capacity) + " bytes");
      static_cast<void>(memory.release());
      memory.reset(grown);
    }
    const int64_t got = read(memory.get() + size, static_cast<size_t>(std::min<int64_t>(capacity - size, 1 << 20)));
    if (got < 0) return {};
    if (got == 0) break;
    size += got;
    if (size > limit)
      throw std::runtime_error(path + " holds more than " + std::to_string(limit) +
                               " bytes of text; --data-limit allows more");
  }
  char *bytes = memory.release();
  return torch::from_blob(bytes, {size}, [](void *own) { std::free(own); }, torch::kUInt8);
}

}  // namespace weft
