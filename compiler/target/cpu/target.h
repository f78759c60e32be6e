// The CPU as a target: native code of "host" or of a CPU that LLVM knows.
#pragma once

#include "compiler/target/target.h"

namespace weft::cpu {

const target::Target &cpuTarget();

}  // namespace weft::cpu
