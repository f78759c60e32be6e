#include "models/tensor_text.h"

#include <sstream>

namespace weft {

static std::string describe(const torch::Tensor &tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << ' ' << tensor.sizes();
  return text.str();
}

std::string mismatch(const torch::Tensor &got, const torch::Tensor &expected) {
  const std::string is = describe(got), wanted = describe(expected);
  return is == wanted ? "" : " is " + is + ", expected " + wanted;
}

}  // namespace weft
