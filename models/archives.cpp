// Texts in .gz and .zip files.
#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "models/text_bytes.h"

namespace weft {

torch::Tensor readGzip(const std::string &path, int64_t limit) {
  const std::unique_ptr<gzFile_s, decltype(&gzclose)> file(gzopen(path.c_str(), "rb"), &gzclose);
  if (!file) throw std::runtime_error("cannot open " + path + " for reading");
  // gzread gives the rest of a file that is cut short before it says so.
  const torch::Tensor text = collect(path, 0, limit, [&](char *to, size_t room) -> int64_t {
    return gzread(file.get(), to, static_cast<unsigned>(room));
  });
  int code = 0;
  const std::string message = gzerror(file.get(), &code);
  if (code != Z_OK && code != Z_STREAM_END) throw std::runtime_error("cannot read " + path + " to its end: " + message);
  if (!text.defined()) throw std::runtime_error("cannot read " + path + " to its end");
  return text;
}

torch::Tensor readZip(const std::string &path, int64_t limit) {
  int code = 0;
  const std::unique_ptr<zip_t, decltype(&zip_discard)> archive(zip_open(path.c_str(), ZIP_RDONLY, &code), &zip_discard);
  if (!archive) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string message = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw std::runtime_error("cannot read " + path + " as a zip file: " + message);
  }
  zip_stat_t found{};
  std::string names;
  int count = 0;
  for (zip_int64_t at = 0; at < zip_get_num_entries(archive.get(), 0); ++at) {
    zip_stat_t stat;
    if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(at), 0, &stat) != 0) continue;
    const std::string name = stat.name;
    if (name.ends_with("/") || name.starts_with("__MACOSX/")) continue;
    if (++count <= 5) names += " " + name;
    found = stat;
  }
  if (count != 1)
    throw std::runtime_error("expected one file in " + path + ", got " + std::to_string(count) + (count ? ":" : "") +
                             names + (count > 5 ? " ..." : ""));
  const int64_t size = static_cast<int64_t>(std::min<zip_uint64_t>(found.size, INT64_MAX));
  if (size > limit)
    throw std::runtime_error(path + " says it holds " + std::to_string(size) + " bytes of text, expected at most " +
                             std::to_string(limit) + "; --data-limit allows more");
  const std::unique_ptr<zip_file_t, decltype(&zip_fclose)> file(zip_fopen_index(archive.get(), found.index, 0),
                                                                &zip_fclose);
  if (!file) throw std::runtime_error("cannot read the file in " + path + ": " + zip_strerror(archive.get()));
  // To the end: only there is the checksum looked at.
  const torch::Tensor text =
      collect(path, size, limit, [&](char *to, size_t room) { return zip_fread(file.get(), to, room); });
  if (!text.defined())
    throw std::runtime_error("cannot read the file in " + path + ": " + zip_file_strerror(file.get()));
  if (text.size(0) != size)
    throw std::runtime_error("cannot read the file in " + path + ": it has " + std::to_string(text.size(0)) +
                             " bytes, expected " + std::to_string(size));
  return text;
}

}  // namespace weft
