// The file that keeps a compiled kernel.
//
// A line that names the format, a line with the SHA-256 of all that follows, a line with the length of the header, the
// header (JSON: what KernelImage holds, and the key), the code. The digest finds damage, and makes a file what its
// writer wrote; it cannot say who that was. A file whose digest is right is trusted, so that it may only come from a
// folder that nobody but the user writes to (see private_folder.h): what users put into their own cache is their right.
#pragma once

#include <string>

#include "compiler/compiler.h"

namespace weft {

std::string printKernelFile(const KernelImage &image, const std::string &key);
/// Throws std::exception where the text is not a whole file of the kernel of `key`, or holds what no kernel of
/// `request` has.
KernelImage parseKernelFile(const std::string &text, const CompileRequest &request, const std::string &key);

}  // namespace weft
