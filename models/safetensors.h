// Tensors by name in the format `safetensors`, which other programs read and write.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <torch/types.h>

namespace weft {

struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;  ///< on the CPU, contiguous
  std::map<std::string, std::string> metadata;
};

/// The bytes of a file: 8 bytes with the length of a header (least byte first), the header (JSON: of each tensor its
/// type, shape and place; padded to a multiple of 8), the tensors without gaps, those of the widest types first. Throws
/// std::invalid_argument for a type that the format does not have.
std::string printTensors(const TensorFile &file);
/// The tensors lie in memory of their own. Throws std::runtime_error, which begins with `origin`, where the bytes are
/// not such a file to the last one: whoever made it.
TensorFile parseTensors(std::string_view bytes, const std::string &origin);

}  // namespace weft
