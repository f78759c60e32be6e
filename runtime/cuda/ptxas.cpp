#include "runtime/ptxas.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "runtime/atomic_file.h"
#include "runtime/cache_folder.h"
#include "runtime/environment.h"
#include "runtime/log.h"
#include "runtime/process.h"
#include "runtime/sha256.h"

namespace weft {
namespace {

namespace fs = std::filesystem;

std::string onPath(const std::string &program) {
  std::istringstream path(environment::path());
  for (std::string folder; std::getline(path, folder, ':');)
    if (const fs::path file = fs::path(folder) / program; access(file.c_str(), X_OK) == 0) return file;
  return "";
}

/// Empty where there is none.
std::string onPathOrBesidePtxas(const std::string &program) {
  if (std::string file = onPath(program); !file.empty()) return file;
  const fs::path ptxas = findPtxas(), file = ptxas.parent_path() / program;
  return ptxas.has_parent_path() && access(file.c_str(), X_OK) == 0 ? file.string() : "";
}

/// A folder that goes when this does, unless kept.
struct Scratch {
  fs::path folder;
  bool keep = false;
  Scratch() {
    std::string name = (fs::temp_directory_path() / "weft-XXXXXX").string();
    if (!mkdtemp(name.data()))
      throw std::runtime_error("cannot make a folder in " + fs::temp_directory_path().string());
    folder = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!keep) fs::remove_all(folder, ignored);
  }
};

/// The first number of a text that `words` follow; 0 where there is none.
int64_t numberBefore(std::string_view text, std::string_view words) {
  for (size_t end = text.find(words); end != std::string_view::npos; end = text.find(words, end + 1)) {
    const size_t begin = text.substr(0, end).find_last_not_of("0123456789") + 1;  // npos + 1 is 0
    int64_t number = 0;
    if (std::from_chars(text.data() + begin, text.data() + end, number).ec == std::errc()) return number;
  }
  return 0;
}

}  // namespace

std::string findPtxas() {
  const std::string own = environment::ptxas();
  return own.empty() ? onPath("ptxas") : own;
}

Assembled assemble(const std::string &ptx, const std::string &target) {
  const std::string ptxas = findPtxas();
  if (ptxas.empty())
    throw std::runtime_error(
        "ptxas not found: put it on the path or name it in WEFT_PTXAS (pip install nvidia-cuda-nvcc brings it)");
  Scratch scratch;
  const fs::path source = scratch.folder / "kernel.ptx", cubin = scratch.folder / "kernel.cubin";
  std::ofstream(source) << ptx;
  const std::vector<std::string> command{ptxas, "-arch=" + target, "-v", source, "-o", cubin};
  Assembled result;
  const Finished finished = runProgram({command, {}}, Streams::Captured);
  result.log = finished.output;
  if (finished.code != 0) {
    scratch.keep = true;
    std::string line;
    for (const std::string &word : command) line += word + " ";
    throw std::runtime_error("ptxas failed:\n" + result.log + "command: " + line);
  }
  if (!readFile(cubin, result.cubin)) throw std::runtime_error("ptxas wrote no " + cubin.string());
  result.registers = static_cast<int>(numberBefore(result.log, " registers"));
  for (const char *kind : {" bytes spill stores", " bytes spill loads"})
    result.spillBytes += numberBefore(result.log, kind);
  return result;
}

std::string deviceCode(const std::string &ptx, const std::string &target) {
  const std::string ptxas = findPtxas();
  if (ptxas.empty()) return ptx;
  // Architectures that this ptxas is too old for: said once.
  static std::mutex mutex;
  static std::set<std::string> unknown;
  if (std::lock_guard lock(mutex); unknown.count(ptxas + target)) return ptx;
  // The digest of what is inside follows the cubin: a damaged file is made anew.
  const PrivateFolder folder = cacheFolder("cubins", true);
  const std::string file = sha256(ptxas + "\n" + target + "\n" + ptx) + "." + target + ".cubin";
  constexpr size_t digits = 64;
  std::string text, wrong;
  if (folder.read(file, text, wrong)) {
    std::string cubin = text.substr(0, text.size() - std::min(digits, text.size()));
    if (!cubin.empty() && text.compare(cubin.size(), digits, sha256(cubin)) == 0) return cubin;
    wrong = "damaged";
  }
  if (!wrong.empty())
    log().warn("ignoring {}/cubins/{}: {}; it is rebuilt", environment::cacheDirectory(), file, wrong);
  try {
    std::string cubin = assemble(ptx, target).cubin;
    if (const std::string reason = folder.replace(file, cubin + sha256(cubin)); !reason.empty())
      log().debug("{} is not kept: {}", file, reason);
    return cubin;
  } catch (const std::runtime_error &error) {
    if (std::string(error.what()).find("'gpu-name'") != std::string::npos) {
      std::lock_guard lock(mutex);
      if (unknown.insert(ptxas + target).second)
        log().warn("{} does not know {}; the driver compiles the PTX of kernels", ptxas, target);
      return ptx;
    }
    log().warn("{}; the driver compiles the PTX instead", error.what());
    return ptx;
  }
}

std::string disassemble(const std::string &cubin) {
  Scratch scratch;
  const std::string file = scratch.folder / "kernel.cubin";
  std::ofstream(file, std::ios::binary) << cubin;
  std::string nvdisasm = environment::nvdisasm();
  if (nvdisasm.empty()) nvdisasm = onPathOrBesidePtxas("nvdisasm");
  for (const std::vector<std::string> &command :
       {std::vector<std::string>{nvdisasm, file},
        std::vector<std::string>{onPathOrBesidePtxas("cuobjdump"), "-sass", file}})
    if (!command[0].empty())
      if (const Finished finished = runProgram({command, {}}, Streams::Captured); finished.code == 0)
        return finished.output;
  throw std::runtime_error(
      "no disassembler found: put nvdisasm or cuobjdump on the path or beside ptxas, or name nvdisasm in "
      "WEFT_NVDISASM");
}

}  // namespace weft
