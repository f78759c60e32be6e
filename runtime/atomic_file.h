// Files that other processes read while they are written, and that a power cut leaves whole.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace weft {

/// The whole of a file; false where it cannot be opened.
bool readFile(const std::filesystem::path &path, std::string &text);

/// Atomic and durable: a reader, also one after a power cut, sees the old file or the whole new one, and the new one
/// where this has returned. Makes missing directories. A symbolic link at `path` is replaced, not followed. Threads and
/// processes may replace the same file at once: one of them is last. Gives the empty string, or why it failed; the old
/// file is untouched then, unless it was only the folder that could not be flushed.
std::string replaceFile(const std::filesystem::path &path, std::string_view text);

/// The same for file `name` of an open folder, with the permissions `mode`.
std::string replaceFileIn(int folder, const std::string &name, std::string_view text, unsigned mode);

}  // namespace weft
