// Whether this machine runs code for a CPU by another name than "host".
#pragma once

#include <string>

namespace weft {

/// `cpu`: "host" or a name that LLVM knows, here and in what follows. False: of another architecture, and none of its
/// code runs here.
bool isOfThisArchitecture(const std::string &cpu);
/// What vectors of `cpu`, of this architecture, have and this machine's do not: "avx512f, avx512bw". Code for it may
/// not run here then. Empty where it does.
std::string missingFeatures(const std::string &cpu);

}  // namespace weft
