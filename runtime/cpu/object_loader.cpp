#include "runtime/cpu/object_loader.h"

#include <dlfcn.h>

#include <set>
#include <stdexcept>

#include "llvm/ExecutionEngine/JITLink/JITLink.h"
#include "llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"

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

/// Of the process, or of what this library was linked with; null where there is none.
void *addressOf(const std::string &name) {
  if (!callable.count(name)) return nullptr;
  if (void *found = dlsym(RTLD_DEFAULT, name.c_str())) return found;
  static void *const self = [] {
    Dl_info own;
    return dladdr(&callable, &own) ? dlopen(own.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
  }();
  return self ? dlsym(self, name.c_str()) : nullptr;
}

/// What comes of a link. All is done when jitlink::link() returns, for the memory is this process's own.
struct Linked {
  llvm::orc::ExecutorAddr entry;
  std::string error;
};

class Linking : public llvm::jitlink::JITLinkContext {
 public:
  Linking(std::string entry, Linked &linked) : JITLinkContext(nullptr), entry(std::move(entry)), linked(linked) {}

 private:
  const std::string entry;
  Linked &linked;

  llvm::jitlink::JITLinkMemoryManager &getMemoryManager() override {
    // Never destroyed: kernels may run until the process ends.
    static auto *const memory = valueOf(llvm::jitlink::InProcessMemoryManager::Create()).release();
    return *memory;
  }
  void notifyFailed(llvm::Error error) override { linked.error = llvm::toString(std::move(error)); }
  void lookup(const LookupMap &names,
              std::unique_ptr<llvm::jitlink::JITLinkAsyncLookupContinuation> continuation) override {
    llvm::jitlink::AsyncLookupResult found;
    for (const auto &[name, flags] : names) {
      void *address = addressOf((*name).str());
      if (!address) return continuation->run(llvm::createStringError("this process has no " + *name));
      found[name] = {llvm::orc::ExecutorAddr::fromPtr(address), llvm::JITSymbolFlags::Callable};
    }
    continuation->run(std::move(found));
  }
  llvm::Error notifyResolved(llvm::jitlink::LinkGraph &graph) override {
    for (const llvm::jitlink::Symbol *symbol : graph.defined_symbols())
      if (symbol->hasName() && *symbol->getName() == entry) linked.entry = symbol->getAddress();
    return llvm::Error::success();
  }
  void notifyFinalized(llvm::jitlink::JITLinkMemoryManager::FinalizedAlloc code) override { code.release(); }
};

}  // namespace

KernelFunction loadObject(const std::string &code, const std::string &entry) {
  const auto buffer = llvm::MemoryBuffer::getMemBufferCopy(code, entry);
  check(*buffer, entry);
  static const auto names = std::make_shared<llvm::orc::SymbolStringPool>();
  Linked linked;
  llvm::jitlink::link(valueOf(llvm::jitlink::createLinkGraphFromObject(buffer->getMemBufferRef(), names)),
                      std::make_unique<Linking>(entry, linked));
  if (!linked.error.empty()) throw std::runtime_error("loading object code: " + linked.error);
  return linked.entry.toPtr<KernelFunction>();
}

}  // namespace weft::cpu
