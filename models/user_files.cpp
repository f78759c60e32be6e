#include "models/user_files.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "runtime/atomic_file.h"

namespace weft {

namespace fs = std::filesystem;

static std::string kindOf(fs::file_type type) {
  switch (type) {
    case fs::file_type::regular: return "file";
    case fs::file_type::directory: return "folder";
    case fs::file_type::fifo: return "pipe";
    case fs::file_type::socket: return "socket";
    default: return "device";
  }
}

/// file_type::not_found where nothing is there.
static fs::file_type typeOf(const std::string &path) {
  std::error_code code;
  const fs::file_type type = fs::status(path, code).type();
  if (type == fs::file_type::none) throw std::runtime_error("cannot open " + path + ": " + code.message());
  return type;
}

void demandFile(const std::string &path) {
  const fs::file_type type = typeOf(path);
  if (type == fs::file_type::not_found) throw std::runtime_error("cannot open " + path + ": there is no such file");
  if (type != fs::file_type::regular) throw std::runtime_error("expected a file, got the " + kindOf(type) + " " + path);
}

std::string readWhole(const std::string &path) {
  demandFile(path);
  std::string text;
  if (!readFile(path, text)) throw std::runtime_error("cannot open " + path + " for reading");
  return text;
}

std::string readUserFile(const std::string &path, size_t limit) {
  demandFile(path);
  std::error_code code;
  if (const auto size = fs::file_size(path, code); !code && size > limit)
    throw std::runtime_error("expected at most " + std::to_string(limit) + " bytes in " + path + ", got " +
                             std::to_string(size));
  return readWhole(path);
}

void makeFolder(const std::string &path) {
  const fs::file_type type = typeOf(path);
  if (type == fs::file_type::directory) return;
  if (type != fs::file_type::not_found)
    throw std::runtime_error("expected a folder, got the " + kindOf(type) + " " + path);
  std::error_code code;
  fs::create_directories(path, code);
  if (code) throw std::runtime_error("cannot make the folder '" + path + "': " + code.message());
}

void demandReplaceable(const std::string &path) {
  const fs::file_type type = typeOf(path);
  if (type != fs::file_type::not_found && type != fs::file_type::regular)
    throw std::runtime_error("expected a file to write, got the " + kindOf(type) + " " + path);
}

void writeFile(const std::string &path, const std::string &text) {
  demandReplaceable(path);
  if (const std::string wrong = replaceFile(path, text); !wrong.empty())
    throw std::runtime_error("cannot write " + path + ": " + wrong);
}

void writeAll(int file, std::string_view bytes, const std::string &path) {
  while (!bytes.empty()) {
    const ssize_t part = write(file, bytes.data(), bytes.size());
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(part));
  }
}

}  // namespace weft
