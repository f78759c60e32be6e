#include "models/tensor_text.h"

#include <sstream>

namespace weft {

std::string describe(const torch::Tensor &tensor) {
  std::ostringstream text;
  text << tensor.scalar_type() << ' ' << tensor.sizes();
  return text.str();
}

}  // namespace weft
