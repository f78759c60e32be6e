// NVIDIA GPUs as a target: PTX for "sm_80" and later.
#pragma once

#include "compiler/target/target.h"

namespace weft::nvptx {

const target::Target &nvptxTarget();

}  // namespace weft::nvptx
