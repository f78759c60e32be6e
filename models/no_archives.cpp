// Where libzip or zlib is missing: texts are raw.
#include <stdexcept>

#include "models/text_bytes.h"

namespace weft {
namespace {

[[noreturn]] void refuse(const std::string &path) {
  throw std::runtime_error("cannot unpack " + path +
                           ": this build was made without libzip and zlib; give it the text itself");
}

}  // namespace

torch::Tensor readGzip(const std::string &path, int64_t) { refuse(path); }
torch::Tensor readZip(const std::string &path, int64_t) { refuse(path); }

}  // namespace weft
