#include "compiler/target/cpu/object_code.h"

#include <mutex>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "compiler/internal_error.h"
#include "compiler/target/llvm_code.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"

namespace weft::cpu {
namespace {

/// Linux keeps AMX's tile registers from a process until it asks for them.
bool amxGranted() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr long requestPermission = 0x1023, tileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  static const bool granted = syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
  return granted;
#else
  return false;
#endif
}

std::string hostFeatures() {
  llvm::SubtargetFeatures features;
  for (auto &[feature, enabled] : llvm::sys::getHostCPUFeatures())
    features.AddFeature(feature, enabled && (!feature.starts_with("amx") || amxGranted()));
  return features.getString();
}

std::unique_ptr<llvm::TargetMachine> targetMachine(const std::string &cpu) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
  });
  const llvm::Triple triple(llvm::sys::getProcessTriple());
  std::string message;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, message);
  internalCheck(target != nullptr, "code generation", message);
  const bool host = cpu == "host";
  llvm::TargetOptions options;
  // Products are written as fma; all else keeps the order in which it was written.
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, host ? llvm::sys::getHostCPUName() : llvm::StringRef(cpu), host ? hostFeatures() : "", options,
      llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

/// A dot product of pairs, of twice the operations, takes AMD's CPUs as long as an FMA (Zen 5: 1,012 to 546 GFLOP/s on
/// two cores); Intel's four times as long (Sapphire Rapids: 116 to 234 GFLOP/s on one).
bool multipliesPairsFast(const llvm::TargetMachine &target) { return target.getTargetCPU().starts_with("znver"); }

/// Whole registers of this CPU in all functions.
void compileFor(const llvm::TargetMachine &target, llvm::Module &code) {
  for (llvm::Function &function : code) {
    if (function.isDeclaration()) continue;
    function.addFnAttr("prefer-vector-width", "512");
    function.addFnAttr("min-legal-vector-width", "512");
    function.addFnAttr("target-cpu", target.getTargetCPU());
    function.addFnAttr("target-features", target.getTargetFeatureString());
    function.addFnAttr(llvm::Attribute::NoUnwind);
  }
}

}  // namespace

bool isKnownCpu(const std::string &cpu) {
  return cpu == "host" || targetMachine("generic")->getMCSubtargetInfo()->isCPUStringValid(cpu);
}

Machine machineOf(const std::string &cpu, unsigned floatBits) {
  auto target = targetMachine(cpu);
  const llvm::MCSubtargetInfo &info = *target->getMCSubtargetInfo();
  const auto lanesOf = [&](unsigned registerBits) { return static_cast<int>(registerBits / floatBits); };
  if (!target->getTargetTriple().isX86()) return {lanesOf(128), 32};
  if (info.checkFeatures("+avx512f")) {
    const bool bf16 = info.checkFeatures("+avx512bw,+avx512bf16");
    return {lanesOf(512), 32, bf16 && info.checkFeatures("+amx-bf16"), bf16 && multipliesPairsFast(*target)};
  }
  if (info.checkFeatures("+avx2")) return {lanesOf(256), 16};
  return {lanesOf(128), 16};
}

bool hasFeatures(const std::string &cpu, const std::string &features) {
  auto target = targetMachine(cpu);
  return target->getTargetTriple().isX86() && target->getMCSubtargetInfo()->checkFeatures(features);
}

std::string hostDescription() { return llvm::sys::getHostCPUName().str() + " " + hostFeatures(); }

std::string generate(mlir::ModuleOp module, const std::string &cpu, Output output, bool scalar) {
  llvm::LLVMContext context;
  auto target = targetMachine(cpu);
  std::unique_ptr<llvm::Module> code = target::toLlvmIr(module, context, *target);
  compileFor(*target, *code);
  target::optimize(*code, *target, scalar ? target::Loops::Scalar : target::Loops::Vectors);
  std::string text;
  if (output == Output::Llvm) {
    llvm::raw_string_ostream stream(text);
    code->print(stream, nullptr);
    return text;
  }
  return target::emitFile(*code, *target, output == Output::Assembly);
}

std::string generate(const std::string &cpu, const std::function<void(llvm::Module &)> &build) {
  llvm::LLVMContext context;
  auto target = targetMachine(cpu);
  llvm::Module code("weft", context);
  code.setDataLayout(target->createDataLayout());
  code.setTargetTriple(target->getTargetTriple());
  build(code);
  compileFor(*target, code);
  target::optimize(code, *target, target::Loops::Unroll);
  return target::emitFile(code, *target, false);
}

}  // namespace weft::cpu
