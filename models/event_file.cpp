#include "models/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "models/user_files.h"

namespace weft {
namespace {

// Numbers of fields in event.proto and summary.proto.
enum EventField { wallTime = 1, stepNumber = 2, fileVersion = 3, summary = 5, sessionLog = 7 };
enum SessionField { sessionStatus = 1 };
constexpr uint64_t sessionStart = 1;  // SessionLog.START
enum SummaryField { summaryValue = 1 };
enum ValueField { valueTag = 1, simpleValue = 2 };

/// The low bytes of `value`, the least first.
template <class T>
std::string littleEndian(T value) {
  std::string bytes;
  for (size_t at = 0; at < sizeof value; ++at) bytes += static_cast<char>(value >> (8 * at) & 0xff);
  return bytes;
}

/// A message of protocol buffers as it is written.
class Message {
 public:
  std::string bytes;

  void number(int field, uint64_t value) {
    key(field, 0);
    varint(value);
  }
  void number(int field, double value) {
    key(field, 1);
    bytes += littleEndian(std::bit_cast<uint64_t>(value));
  }
  void number(int field, float value) {
    key(field, 5);
    bytes += littleEndian(std::bit_cast<uint32_t>(value));
  }
  void text(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes += value;
  }

 private:
  void key(int field, int type) { varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes += static_cast<char>((value & 0x7f) | 0x80);
    bytes += static_cast<char>(value);
  }
};

Message newEvent(int64_t step) {
  Message event;
  event.number(wallTime, std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count());
  if (step != 0) event.number(stepNumber, static_cast<uint64_t>(step));
  return event;
}

std::string hostName() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0 || !name[0] || std::strchr(name, '/')) return "localhost";
  return name;
}

constexpr std::string_view nameStart = "events.out.tfevents.";

/// Now, and later than those of the files that are there: readers take them in the order of their names.
int64_t newSecond(const std::string &directory) {
  int64_t second =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::error_code code;
  for (const auto &entry : std::filesystem::directory_iterator(directory, code)) {
    const std::string name = entry.path().filename().string();
    int64_t other = 0;
    if (name.starts_with(nameStart) &&
        std::from_chars(name.data() + nameStart.size(), name.data() + name.size(), other).ec == std::errc{} &&
        other < second + 1000)
      second = std::max(second, other + 1);
  }
  return second;
}

}  // namespace

uint32_t maskedCrc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t at = 0; at < 256; ++at) {
      uint32_t value = at;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0x82f63b78u : 0u);
      made[at] = value;
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (const unsigned char byte : bytes) crc = table[(crc ^ byte) & 0xff] ^ crc >> 8;
  crc = ~crc;
  return std::rotr(crc, 15) + 0xa282ead8u;
}

EventFile::EventFile(std::string own, int64_t step) : directory(std::move(own)), firstStep(step + 1) {}

EventFile::~EventFile() {
  if (file >= 0) close(file);
}

void EventFile::open() {
  path = directory + "/" + std::string(nameStart) + std::to_string(newSecond(directory)) + "." + hostName() + "." +
         std::to_string(getpid());
  file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
  Message version = newEvent(0);
  version.text(fileVersion, "brain.Event:2");
  write(version.bytes);
  Message status, start = newEvent(firstStep);
  status.number(sessionStatus, sessionStart);
  start.text(sessionLog, status.bytes);
  write(start.bytes);
}

void EventFile::append(int64_t step, const Scalars &scalars) {
  if (file < 0) open();
  Message values;
  for (const auto &[name, figure] : scalars) {
    Message value;
    value.text(valueTag, name);
    value.number(simpleValue, static_cast<float>(figure));
    values.text(summaryValue, value.bytes);
  }
  Message event = newEvent(step);
  event.text(summary, values.bytes);
  write(event.bytes);
}

void EventFile::write(std::string_view event) {
  const std::string length = littleEndian(static_cast<uint64_t>(event.size()));
  std::string record = length + littleEndian(maskedCrc32c(length));
  record += event;
  record += littleEndian(maskedCrc32c(event));
  writeAll(file, record, path);
}

}  // namespace weft
