#include "runtime/cpu/object_loader.h"

#include <mutex>
#include <stdexcept>

#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"

namespace weft::cpu {

static std::runtime_error failure(llvm::Error error) {
  return std::runtime_error("loading object code: " + llvm::toString(std::move(error)));
}

KernelFunction loadObject(const std::string &code, const std::string &entry) {
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  // Never destroyed: kernels may run until the process ends.
  static llvm::orc::LLJIT *jit = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    auto made = llvm::orc::LLJITBuilder().create();
    if (!made) throw failure(made.takeError());
    return made->release();
  }();
  static int count = 0;
  // A library a kernel: kernels of different variants share entry names.
  auto library = jit->createJITDylib("kernel" + std::to_string(count++));
  if (!library) throw failure(library.takeError());
  auto symbols = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      jit->getDataLayout().getGlobalPrefix());
  if (!symbols) throw failure(symbols.takeError());
  library->addGenerator(std::move(*symbols));
  auto buffer = llvm::MemoryBuffer::getMemBufferCopy(code, entry);
  if (auto error = jit->addObjectFile(*library, std::move(buffer))) throw failure(std::move(error));
  auto address = jit->lookup(*library, entry);
  if (!address) throw failure(address.takeError());
  return address->toPtr<KernelFunction>();
}

}  // namespace weft::cpu
