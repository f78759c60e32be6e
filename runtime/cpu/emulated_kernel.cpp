#include "runtime/cpu/emulated_kernel.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string_view>

#include "runtime/process.h"

namespace weft::cpu {
namespace {

/// The emulator's process has its own things where ours has its memory: what is ours lies there as much lower.
constexpr uint64_t moved = uint64_t{1} << 44;
constexpr uint64_t page = 1 << 16;  ///< at most, of the architectures there are

/// Of this process, with all that is in it, until it ends.
class ObjectFolder {
 public:
  ObjectFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make " + name + ": " + std::strerror(errno));
    path = name;
  }
  ~ObjectFolder() {
    std::error_code ignored;
    if (owner == getpid()) std::filesystem::remove_all(path, ignored);
  }
  std::string add(const std::string &code) {
    const std::string file = path / (std::to_string(count++) + ".o");
    std::ofstream(file, std::ios::binary) << code;
    return file;
  }

 private:
  const pid_t owner = getpid();
  std::filesystem::path path;
  std::atomic<int> count{0};
};

/// Memory with the ranges in it, of which no two share a page. What lies between ranges is none of the kernel's: it is
/// neither sent nor, which would undo what others write there meanwhile, taken back.
std::vector<MemoryRange> regionsOf(std::vector<MemoryRange> ranges) {
  std::sort(ranges.begin(), ranges.end(), [](auto &x, auto &y) { return x.begin < y.begin; });
  std::vector<MemoryRange> all;
  for (const MemoryRange &range : ranges) {
    const uint64_t end = range.begin + static_cast<uint64_t>(range.bytes);
    if (!all.empty()) {
      MemoryRange &last = all.back();
      const uint64_t lastEnd = last.begin + static_cast<uint64_t>(last.bytes);
      if (range.begin / page <= (lastEnd - 1) / page) {
        last.bytes = static_cast<int64_t>(std::max(end, lastEnd) - last.begin);
        continue;
      }
    }
    all.push_back(range);
  }
  return all;
}

void append(std::string &text, const void *data, int64_t bytes) {
  text.append(static_cast<const char *>(data), static_cast<size_t>(bytes));
}
void append(std::string &text, int64_t word) { append(text, &word, sizeof word); }
/// As the emulator's process has it.
void appendPlace(std::string &text, const MemoryRange &range) {
  append(text, static_cast<int64_t>(range.begin - moved));
  append(text, range.bytes);
}
char *at(const MemoryRange &range) { return reinterpret_cast<char *>(range.begin); }

class EmulatedKernel final : public LoadedKernel {
 public:
  EmulatedKernel(KernelImage own, const std::string &code, std::string emulator)
      : LoadedKernel(std::move(own)), emulator(std::move(emulator)) {
    static ObjectFolder folder;
    object = folder.add(code);
  }

  void run(const int64_t *arguments, int64_t programs, const LaunchContext &context) const override {
    std::vector<MemoryRange> ranges;
    for (const MemoryRange &range : context.memory)
      if (range.bytes > 0) ranges.push_back(range);
    const std::vector<MemoryRange> regions = regionsOf(ranges);
    std::string message;
    const auto slots = static_cast<int64_t>(image().slots.size());
    for (const int64_t word : {int64_t{0}, programs, std::max(image().scratchBytes, context.workspaceBytes), slots,
                               static_cast<int64_t>(regions.size()), static_cast<int64_t>(ranges.size())})
      append(message, word);
    for (int64_t slot = 0; slot < slots; ++slot) {
      const bool pointer = image().slots[static_cast<size_t>(slot)].kind == ArgumentSlot::Kind::Pointer;
      append(message, arguments[slot] - static_cast<int64_t>(pointer ? moved : 0));
    }
    for (const MemoryRange &region : regions) appendPlace(message, region);
    for (const MemoryRange &range : ranges) appendPlace(message, range);
    int64_t expected = 0;
    for (const MemoryRange &range : ranges) {
      append(message, at(range), range.bytes);
      expected += range.bytes;
    }
    Process process({{emulator, object, image().entry}, {}}, Streams::Exchanged);
    std::string answer;
    answer.reserve(static_cast<size_t>(expected));
    if (process.send(message))
      while (process.receive(answer, std::chrono::seconds(1)) != Process::Received::End) continue;
    const int code = process.wait();
    if (code != 0 || answer.size() != static_cast<size_t>(expected))
      throw std::runtime_error("WEFT_CPU_EMULATOR: " + emulator + " " + object + " " + image().entry +
                               " ended with exit code " + std::to_string(code) + " after " +
                               std::to_string(answer.size()) + " of " + std::to_string(expected) + " bytes");
    std::string_view rest = answer;
    for (const MemoryRange &range : ranges) {
      std::memcpy(at(range), rest.data(), static_cast<size_t>(range.bytes));
      rest.remove_prefix(static_cast<size_t>(range.bytes));
    }
  }

 private:
  const std::string emulator;
  std::string object;  ///< a file
};

}  // namespace

std::shared_ptr<const LoadedKernel> loadEmulated(KernelImage image, const std::string &code,
                                                 const std::string &emulator) {
  return std::make_shared<EmulatedKernel>(std::move(image), code, emulator);
}

}  // namespace weft::cpu
