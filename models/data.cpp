#include "models/data.h"

#include <zip.h>
#include <zlib.h>

#include <random>
#include <stdexcept>

namespace weft {
namespace {

bool endsWith(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/// gzread also reads files that are not compressed, as they are.
std::string readGzip(const std::string &path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (!file) throw std::runtime_error("cannot open " + path + ": give a text file with --data, or set WEFT_DATA");
  std::string bytes, block(1 << 20, '\0');
  int got;
  while ((got = gzread(file, block.data(), static_cast<unsigned>(block.size()))) > 0) bytes.append(block.data(), got);
  int code = 0;
  const std::string message = gzerror(file, &code);
  const bool truncated = got < 0 || (gzclose(file) == Z_BUF_ERROR);
  if (truncated) throw std::runtime_error("cannot read " + path + " to its end: " + message);
  return bytes;
}

std::string readZip(const std::string &path) {
  int code = 0;
  zip_t *archive = zip_open(path.c_str(), ZIP_RDONLY, &code);
  if (!archive) throw std::runtime_error("cannot open " + path + " as a zip file");
  zip_stat_t stat;
  zip_file_t *file = zip_stat_index(archive, 0, 0, &stat) == 0 ? zip_fopen_index(archive, 0, 0) : nullptr;
  std::string bytes;
  bool ok = file != nullptr;
  if (ok) {
    bytes.resize(stat.size);
    zip_int64_t done = 0, got = 1;
    while (done < static_cast<zip_int64_t>(stat.size) && (got = zip_fread(file, bytes.data() + done, stat.size - done)) > 0)
      done += got;
    ok = done == static_cast<zip_int64_t>(stat.size);
    zip_fclose(file);
  }
  zip_discard(archive);
  if (!ok) throw std::runtime_error("cannot read the first file of " + path);
  return bytes;
}

}  // namespace

TextData loadText(const std::string &path) {
  const std::string bytes = endsWith(path, ".zip") ? readZip(path) : readGzip(path);
  const int64_t size = static_cast<int64_t>(bytes.size());
  if (size < 10000)
    throw std::runtime_error(path + ": expected a text of at least 10,000 bytes, got " + std::to_string(size));
  const bool enwik8 = size == 100'000'000;
  const int64_t trainEnd = enwik8 ? 90'000'000 : size * 90 / 100, validationEnd = enwik8 ? 95'000'000 : size * 95 / 100;
  torch::Tensor all = torch::empty({size}, torch::kUInt8);
  std::memcpy(all.data_ptr(), bytes.data(), bytes.size());
  TextData data;
  data.train = all.slice(0, 0, trainEnd);
  data.validation = all.slice(0, trainEnd, validationEnd);
  data.test = all.slice(0, validationEnd, size);
  data.description = path + ", " + std::to_string(size) + " bytes, " +
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
