// The folders of the cache: where compiled kernels, cubins and tuned schedules are kept between processes.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/private_folder.h"

namespace weft {

/// Folder `part` of the cache directory. One that is not to be trusted (see private_folder.h), cannot be made, or has
/// no place because the user has no home is not usable, and the log says so: once a process.
PrivateFolder cacheFolder(const std::string &part, bool make);

}  // namespace weft
