#include "runtime/cpu/object_loader.h"

#include <atomic>
#include <set>
#include <stdexcept>

#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"

namespace weft::cpu {
namespace {

std::runtime_error failure(llvm::Error error) {
  return std::runtime_error("loading object code: " + llvm::toString(std::move(error)));
}

template <class T>
T valueOf(llvm::Expected<T> value) {
  if (!value) throw failure(value.takeError());
  return std::move(*value);
}

/// What generated code may call of this process: what LLVM makes of copies, fills, math functions and conversions where
/// the CPU has no instructions for them. Nothing else of the process can be reached by name.
const std::set<std::string> callable{"memcpy", "memmove", "memset", "bzero",
                                     // Of the C library's math.
                                     "acosf", "asinf", "atanf", "atan2f", "cbrtf", "ceilf", "copysignf", "cosf",
                                     "coshf", "erff", "exp2f", "expf", "expm1f", "fabsf", "floorf", "fmaf", "fmaxf",
                                     "fminf", "fmodf", "log10f", "log1pf", "log2f", "logf", "nearbyintf", "powf",
                                     "rintf", "roundevenf", "roundf", "sincosf", "sinf", "sinhf", "sqrtf", "tanf",
                                     "tanhf", "truncf", "ceil", "copysign", "cos", "erf", "exp", "exp2", "fabs",
                                     "floor", "fma", "fmax", "fmin", "fmod", "log", "log1p", "log2", "nearbyint", "pow",
                                     "rint", "round", "roundeven", "sin", "sincos", "sqrt", "tan", "tanh", "trunc",
                                     // Of the C compiler's own library: between f32 and f16.
                                     "__extendhfsf2", "__gnu_f2h_ieee", "__gnu_h2f_ieee", "__truncsfhf2"};

/// Throws unless the code defines `entry` itself and calls nothing that it may not.
void check(const llvm::MemoryBuffer &code, const std::string &entry) {
  const auto object = valueOf(llvm::object::ObjectFile::createObjectFile(code.getMemBufferRef()));
  bool defined = false;
  for (const llvm::object::SymbolRef &symbol : object->symbols()) {
    const uint32_t flags = valueOf(symbol.getFlags());
    const std::string name = valueOf(symbol.getName()).str();
    if (flags & llvm::object::SymbolRef::SF_Undefined) {
      if (!name.empty() && !callable.count(name))
        throw std::runtime_error("loading object code: it may not call " + name);
    } else if (name == entry && (flags & llvm::object::SymbolRef::SF_Global)) {
      defined = valueOf(symbol.getType()) == llvm::object::SymbolRef::ST_Function;
    }
  }
  if (!defined) throw std::runtime_error("loading object code: it defines no function " + entry);
}

llvm::orc::LLJIT &linker() {
  // Never destroyed: kernels may run until the process ends.
  static llvm::orc::LLJIT *jit = [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    // No platform: kernels have no initializers, and one would link every symbol of the process.
    return valueOf(llvm::orc::LLJITBuilder()
                       .setLinkProcessSymbolsByDefault(false)
                       .setPlatformSetUp(llvm::orc::setUpInactivePlatform)
                       .create())
        .release();
  }();
  return *jit;
}

}  // namespace

KernelFunction loadObject(const std::string &code, const std::string &entry) {
  auto buffer = llvm::MemoryBuffer::getMemBufferCopy(code, entry);
  check(*buffer, entry);
  llvm::orc::LLJIT &jit = linker();
  static std::atomic<int> count{0};
  // A library a kernel: kernels of different variants share entry names.
  auto library = jit.createJITDylib("kernel" + std::to_string(count++));
  if (!library) throw failure(library.takeError());
  library->addGenerator(valueOf(llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      jit.getDataLayout().getGlobalPrefix(),
      [](const llvm::orc::SymbolStringPtr &name) { return callable.count((*name).str()) > 0; })));
  if (auto error = jit.addObjectFile(*library, std::move(buffer))) throw failure(std::move(error));
  return valueOf(jit.lookup(*library, entry)).toPtr<KernelFunction>();
}

}  // namespace weft::cpu
