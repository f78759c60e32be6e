// Figures of a run for TensorBoard: a file of events a process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft {

/// events.out.tfevents.SECONDS.HOST.PROCESS in a run's folder: records as TensorFlow frames them (length, masked
/// CRC-32C, bytes, masked CRC-32C), each an Event of TensorFlow's event.proto.
class EventFile {
 public:
  /// Nothing is written before the first figures. Those of steps past `step` in earlier files of the folder were of a
  /// process that ended unsaved: the file begins by telling readers so.
  EventFile(std::string directory, int64_t step);
  ~EventFile();
  EventFile(const EventFile &) = delete;
  EventFile &operator=(const EventFile &) = delete;

  using Scalars = std::vector<std::pair<std::string, double>>;
  /// Throws std::runtime_error (disk full).
  void append(int64_t step, const Scalars &scalars);

 private:
  std::string directory, path;
  int64_t firstStep;
  int file = -1;

  void open();
  void write(std::string_view event);
};

/// CRC-32C (Castagnoli), as TensorFlow masks it.
uint32_t maskedCrc32c(std::string_view bytes);

}  // namespace weft
