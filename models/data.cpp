#include "models/data.h"

#include <zip.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>

#include "models/user_files.h"

namespace weft {
namespace {

/// read(to, room) puts the next bytes there and gives their count: 0 at the end, below 0 on an error it will explain
/// itself.
using Read = std::function<int64_t(char *to, size_t room)>;

/// All that `read` gives, uint8 [bytes]; null after an error. `expected` is a guess at how much that is. A small
/// archive can unfold to any size: reading stops at the limit.
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

/// The one file of an archive.
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

torch::Tensor readRaw(const std::string &path, int64_t limit) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path + " for reading");
  const torch::Tensor text = collect(path, 0, limit, [&](char *to, size_t room) -> int64_t {
    file.read(to, static_cast<std::streamsize>(room));
    return file.bad() ? -1 : file.gcount();
  });
  if (!text.defined()) throw std::runtime_error("cannot read " + path + " to its end");
  return text;
}

torch::Tensor readText(const std::string &path, int64_t limit) {
  demandFile(path);
  std::string start(6, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<size_t>(file.gcount()));
  // Trained on as they are, these would be noise.
  for (const auto &[sign, program] :
       std::initializer_list<std::pair<std::string, const char *>>{{"BZh", "bzip2"},
                                                                   {std::string("\xfd"
                                                                                "7zXZ\0",
                                                                                6),
                                                                    "xz"},
                                                                   {"\x28\xb5\x2f\xfd", "zstd"},
                                                                   {"7z\xbc\xaf\x27\x1c", "7z"}})
    if (start.starts_with(sign))
      throw std::runtime_error(path + " is compressed by " + program + ": expected a text, raw, .gz or .zip");
  const bool zip = start.starts_with("PK\3\4") || start.starts_with("PK\5\6"), gzip = start.starts_with("\x1f\x8b");
  if (path.ends_with(".gz") && !gzip)
    throw std::runtime_error("cannot read " + path + ": it does not begin as a gzip file does");
  if (path.ends_with(".zip") && !zip)
    throw std::runtime_error("cannot read " + path + ": it does not begin as a zip file does");
  return zip ? readZip(path, limit) : gzip ? readGzip(path, limit) : readRaw(path, limit);
}

}  // namespace

TextData loadText(const std::string &path, int64_t limit) {
  const torch::Tensor all = readText(path, limit);
  const int64_t size = all.size(0);
  if (size < 10000)
    throw std::runtime_error(path + ": expected a text of at least 10,000 bytes, got " + std::to_string(size));
  const bool enwik8 = size == 100'000'000;
  const int64_t trainEnd = enwik8 ? 90'000'000 : size * 90 / 100, validationEnd = enwik8 ? 95'000'000 : size * 95 / 100;
  TextData data;
  data.train = all.slice(0, 0, trainEnd);
  data.validation = all.slice(0, trainEnd, validationEnd);
  data.test = all.slice(0, validationEnd, size);
  data.description =
      path + ", " + std::to_string(size) + " bytes, " +
      (enwik8 ? "split 90 M / 5 M / 5 M" : "split 90 / 5 / 5 %; bpc is not comparable with enwik8 figures");
  return data;
}

std::pair<torch::Tensor, torch::Tensor> sampleBatch(const torch::Tensor &text, int64_t batch, int64_t context,
                                                    uint64_t seed, uint64_t step) {
  const int64_t last = text.size(0) - context - 1;
  if (last < 0) throw std::runtime_error("expected a text longer than the context of " + std::to_string(context));
  std::seed_seq sequence{seed, step};
  std::mt19937_64 random(sequence);
  torch::Tensor inputs = torch::empty({batch, context}, torch::kInt64), targets = torch::empty_like(inputs);
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t start = static_cast<int64_t>(random() % static_cast<uint64_t>(last + 1));
    inputs[row] = text.slice(0, start, start + context).to(torch::kInt64);
    targets[row] = text.slice(0, start + 1, start + context + 1).to(torch::kInt64);
  }
  return {inputs, targets};
}

}  // namespace weft
