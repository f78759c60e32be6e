// Files and folders that the user names: refused with a reason where they are not what they should be.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace weft {

/// Throws std::runtime_error unless `path` is a regular file, or a link to one: says whether it is missing, a folder, a
/// pipe (opening one would wait for its other end) or a device.
void demandFile(const std::string &path);
/// The whole of a file; throws as demandFile does, and where it cannot be opened.
std::string readWhole(const std::string &path);
/// The whole of a file that a person wrote, of at most `limit` bytes.
std::string readUserFile(const std::string &path, size_t limit);

/// Makes `path` a folder where it is none yet.
void makeFolder(const std::string &path);
/// Throws where writeFile(path) would have to replace something other than a file (a pipe, a device such as /dev/null).
void demandReplaceable(const std::string &path);
/// Replaces `path` whole or not at all; throws std::runtime_error with the reason where it cannot.
void writeFile(const std::string &path, const std::string &text);
/// All of `bytes` to the open file, whose name is for the error: throws std::runtime_error (disk full).
void writeAll(int file, std::string_view bytes, const std::string &path);

}  // namespace weft
