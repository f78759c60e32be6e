#include "compiler/internal_error.h"
#include "compiler/target/cpu/target.h"
#include "compiler/target/nvptx/target.h"

namespace weft::target {

const Target &targetOf(const std::string &name) {
  // CPUs claim every name that nothing before them does.
  static const Target *const targets[] = {&nvptx::nvptxTarget(), &cpu::cpuTarget()};
  for (const Target *target : targets)
    if (target->claims(name)) return *target;
  throw InternalError("registry", "no target claims " + name);
}

}  // namespace weft::target
