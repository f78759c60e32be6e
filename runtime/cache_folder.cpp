#include "runtime/cache_folder.h"

#include <mutex>
#include <set>

#include "runtime/environment.h"
#include "runtime/log.h"

namespace weft {
namespace {

constexpr char homeless[] = "this user has no home directory, and WEFT_CACHE_DIR is not set";

void warnOnce(const std::string &text) {
  static std::mutex mutex;
  static std::set<std::string> said;
  std::lock_guard lock(mutex);
  if (said.insert(text).second) log().warn("{}", text);
}

}  // namespace

PrivateFolder cacheFolder(const std::string &part, bool make) {
  const std::string directory = environment::cacheDirectory();
  PrivateFolder folder =
      directory.empty() ? PrivateFolder(homeless) : PrivateFolder(std::filesystem::path(directory) / part, make);
  if (!folder.refusal().empty())
    warnOnce("nothing is kept or read of compiled kernels and tuning: " + folder.refusal());
  return folder;
}

}  // namespace weft
