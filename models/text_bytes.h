// The bytes of a text, from wherever they come.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <torch/types.h>

namespace weft {

/// read(to, room) puts the next bytes there and gives their count: 0 at the end, below 0 on an error it will explain
/// itself.
using Read = std::function<int64_t(char *to, size_t room)>;

/// All that `read` gives, uint8 [bytes]; null after an error. `expected` is a guess at how much that is. A small
/// archive can unfold to any size: reading stops at the limit.
torch::Tensor collect(const std::string &path, int64_t expected, int64_t limit, const Read &read);

torch::Tensor readGzip(const std::string &path, int64_t limit);
/// The one file of an archive.
torch::Tensor readZip(const std::string &path, int64_t limit);

}  // namespace weft
