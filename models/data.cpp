#include "models/data.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <stdexcept>

#include "models/text_bytes.h"
#include "models/user_files.h"
#include "runtime/sha256.h"

namespace weft {
namespace {

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

std::string_view bytesOf(const torch::Tensor &text) {
  return {reinterpret_cast<const char *>(text.data_ptr<uint8_t>()), static_cast<size_t>(text.size(0))};
}

std::string digest(const TextData &data) {
  std::string parts;
  for (const torch::Tensor &part : {data.train, data.validation, data.test}) parts += sha256(bytesOf(part));
  return sha256(parts);
}

std::pair<torch::Tensor, torch::Tensor> sampleRows(const torch::Tensor &text, Rows rows, int64_t context, uint64_t seed,
                                                   uint64_t step) {
  const int64_t last = text.size(0) - context - 1;
  if (last < 0) throw std::runtime_error("expected a text longer than the context of " + std::to_string(context));
  std::seed_seq sequence{seed, step};
  std::mt19937_64 random(sequence);
  random.discard(static_cast<unsigned long long>(rows.first));  // a number a row
  torch::Tensor inputs = torch::empty({rows.count, context}, torch::kInt64), targets = torch::empty_like(inputs);
  for (int64_t row = 0; row < rows.count; ++row) {
    const int64_t start = static_cast<int64_t>(random() % static_cast<uint64_t>(last + 1));
    inputs[row] = text.slice(0, start, start + context).to(torch::kInt64);
    targets[row] = text.slice(0, start + 1, start + context + 1).to(torch::kInt64);
  }
  return {inputs, targets};
}

}  // namespace weft
