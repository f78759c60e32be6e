#include "compiler/target/cpu/object_code.h"

#include <mutex>
#include <optional>

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "compiler/internal_error.h"
#include "compiler/runnable.h"
#include "compiler/target/llvm_code.h"
#include "llvm/Analysis/TargetTransformInfo.h"
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

llvm::Triple ownTriple() { return llvm::Triple(llvm::sys::getProcessTriple()); }

/// Of SVE's registers, which the system and a process may make shorter than the CPU has them; 0: none.
unsigned hostSveBits() {
#if defined(__linux__) && defined(__aarch64__)
  constexpr int getLength = 51, lengthMask = 0xffff;  // PR_SVE_GET_VL, PR_SVE_VL_LEN_MASK
  const int bytes = prctl(getLength);
  return bytes < 0 ? 0 : 8 * static_cast<unsigned>(bytes & lengthMask);
#else
  return 0;
#endif
}

std::string hostFeatures() {
  llvm::SubtargetFeatures features;
  for (auto &[feature, enabled] : llvm::sys::getHostCPUFeatures())
    features.AddFeature(feature, enabled && (!feature.starts_with("amx") || amxGranted()));
  // A virtual machine may hide it, and LLVM then takes it from the CPU's name.
  if (ownTriple().isAArch64() && hostSveBits() == 0) features.AddFeature("sve", false);
  return features.getString();
}

const llvm::Target &architecture(const llvm::Triple &triple) {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
#ifdef WEFT_OTHER_CPUS
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
#endif
  });
  std::string message;
  const llvm::Target *found = llvm::TargetRegistry::lookupTarget(triple, message);
  internalCheck(found != nullptr, "code generation", message);
  return *found;
}

/// Of a CPU: this process's, or that of another architecture where LLVM knows the name of that one alone.
std::optional<llvm::Triple> tripleOf(const std::string &cpu) {
  std::vector<llvm::Triple> all{ownTriple()};
#ifdef WEFT_OTHER_CPUS
  if (!all[0].isAArch64()) all.emplace_back("aarch64-unknown-linux-gnu");
#endif
  for (const llvm::Triple &triple : all) {
    const std::unique_ptr<llvm::MCSubtargetInfo> info(architecture(triple).createMCSubtargetInfo(triple, "", ""));
    if (cpu == "host" || info->isCPUStringValid(cpu)) return triple;
  }
  return {};
}

std::unique_ptr<llvm::TargetMachine> targetMachine(const std::string &cpu) {
  const std::optional<llvm::Triple> triple = tripleOf(cpu);
  internalCheck(triple.has_value(), "code generation", "LLVM knows no CPU " + cpu);
  const bool host = cpu == "host";
  llvm::TargetOptions options;
  // Products are written as fma; all else keeps the order in which it was written.
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(architecture(*triple).createTargetMachine(
      *triple, host ? llvm::sys::getHostCPUName() : llvm::StringRef(cpu), host ? hostFeatures() : "", options,
      llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

/// A dot product of pairs, of twice the operations, takes AMD's CPUs as long as an FMA (Zen 5: 1,012 to 546 GFLOP/s on
/// two cores); Intel's four times as long (Sapphire Rapids: 116 to 234 GFLOP/s on one).
bool multipliesPairsFast(const llvm::TargetMachine &target) { return target.getTargetCPU().starts_with("znver"); }

void compileFor(const llvm::TargetMachine &target, llvm::Function &function) {
  function.addFnAttr("target-cpu", target.getTargetCPU());
  function.addFnAttr("target-features", target.getTargetFeatureString());
  function.addFnAttr(llvm::Attribute::NoUnwind);
}

/// Of a CPU that has SVE; that of one other than this machine's is what LLVM tunes code for it for.
unsigned sveBits(llvm::TargetMachine &target, const std::string &cpu) {
  if (cpu == "host") return hostSveBits();
  llvm::LLVMContext context;
  llvm::Module code("weft", context);
  auto *function = llvm::Function::Create(llvm::FunctionType::get(llvm::Type::getVoidTy(context), false),
                                          llvm::Function::ExternalLinkage, "asked", code);
  compileFor(target, *function);
  return 128 * target.getTargetTransformInfo(*function).getVScaleForTuning().value_or(1);
}

/// Whole registers of this CPU in all functions.
void compileFor(llvm::TargetMachine &target, llvm::Module &code, const std::string &cpu) {
  const Machine machine = machineOf(cpu);
  for (llvm::Function &function : code) {
    if (function.isDeclaration()) continue;
    compileFor(target, function);
    if (target.getTargetTriple().isX86()) {
      function.addFnAttr("prefer-vector-width", "512");
      function.addFnAttr("min-legal-vector-width", "512");
    } else if (machine.scalable) {
      const auto times = static_cast<unsigned>(machine.lanes) / 4;
      function.addFnAttr(llvm::Attribute::getWithVScaleRangeArgs(code.getContext(), times, times));
    }
  }
}

Machine x86(const llvm::TargetMachine &target, const llvm::MCSubtargetInfo &info) {
  Machine machine;
  const bool wide = info.checkFeatures("+avx512f"), bf16 = info.checkFeatures("+avx512bw,+avx512bf16");
  machine.lanes = wide ? 16 : info.checkFeatures("+avx2") ? 8 : 4;
  machine.registers = wide ? 32 : 16;
  machine.avx512 = wide;
  machine.amx = bf16 && info.checkFeatures("+amx-bf16");
  if (bf16 && multipliesPairsFast(target)) machine.pairs = Machine::Pairs::Dots;
  machine.roundsToBf16 = info.checkFeatures("+avx512bf16") || info.checkFeatures("+avxneconvert");
  return machine;
}

Machine arm(llvm::TargetMachine &target, const llvm::MCSubtargetInfo &info, const std::string &cpu) {
  Machine machine;
  machine.registers = 32;
  // Where SVE's registers are as long as NEON's, the code for NEON's is as fast, and LLVM knows more of it.
  if (info.checkFeatures("+sve")) machine.lanes = static_cast<int>(sveBits(target, cpu) / 32);
  machine.scalable = machine.lanes > 4;
  machine.roundsToBf16 = info.checkFeatures("+bf16");
  if (machine.roundsToBf16) machine.pairs = Machine::Pairs::Matrices;
  return machine;
}

}  // namespace

bool isKnownCpu(const std::string &cpu) { return tripleOf(cpu).has_value(); }

Machine machineOf(const std::string &cpu, unsigned floatBits) {
  auto target = targetMachine(cpu);
  const llvm::MCSubtargetInfo &info = *target->getMCSubtargetInfo();
  const llvm::Triple &triple = target->getTargetTriple();
  Machine machine = triple.isX86() ? x86(*target, info) : triple.isAArch64() ? arm(*target, info, cpu) : Machine();
  machine.lanes = machine.lanes * 32 / static_cast<int>(floatBits);
  return machine;
}

bool hasFeatures(const std::string &cpu, const std::string &features) {
  auto target = targetMachine(cpu);
  return target->getTargetTriple().isX86() && target->getMCSubtargetInfo()->checkFeatures(features);
}

std::string hostDescription() {
  return llvm::sys::getHostCPUName().str() + " " + hostFeatures() +
         (hostSveBits() > 128 ? " of " + std::to_string(hostSveBits()) + " bits" : "");
}

std::string generate(mlir::ModuleOp module, const std::string &cpu, Output output, bool scalar) {
  llvm::LLVMContext context;
  auto target = targetMachine(cpu);
  std::unique_ptr<llvm::Module> code = target::toLlvmIr(module, context, *target);
  compileFor(*target, *code, cpu);
  const target::Loops own = scalar ? target::Loops::Scalar : target::Loops::Vectors;
  target::optimize(*code, *target, own);
  std::string text;
  if (output == Output::Llvm) {
    llvm::raw_string_ostream stream(text);
    code->print(stream, nullptr);
    return text;
  }
  return target::emitFile(*code, *target, output == Output::Assembly, own);
}

std::string generate(const std::string &cpu, const std::function<void(llvm::Module &)> &build) {
  llvm::LLVMContext context;
  auto target = targetMachine(cpu);
  llvm::Module code("weft", context);
  code.setDataLayout(target->createDataLayout());
  code.setTargetTriple(target->getTargetTriple());
  build(code);
  compileFor(*target, code, cpu);
  target::optimize(code, *target, target::Loops::Unroll);
  return target::emitFile(code, *target, false, target::Loops::Unroll);
}

}  // namespace weft::cpu

namespace weft {

bool isOfThisArchitecture(const std::string &cpu) {
  const auto triple = cpu::tripleOf(cpu);
  return triple && triple->getArch() == cpu::ownTriple().getArch();
}

std::string missingFeatures(const std::string &cpu) {
  if (cpu == "host") return "";
  const auto own = cpu::targetMachine("host"), other = cpu::targetMachine(cpu);
  // Those of vectors that LLVM asks an x86 for; of an Arm CPU it says only what it has.
  llvm::SmallVector<llvm::StringRef> names{"sve", "sve2", "bf16"};
  if (own->getTargetTriple().isX86()) names = {"fma", "f16c"};
  const auto asked = llvm::sys::getHostCPUFeatures();
  for (const auto &feature : asked)
    if (feature.getKey().starts_with("avx") || feature.getKey().starts_with("amx")) names.push_back(feature.getKey());
  llvm::sort(names);
  std::string all;
  for (const llvm::StringRef name : names) {
    const std::string has = "+" + name.str();
    if (other->getMCSubtargetInfo()->checkFeatures(has) && !own->getMCSubtargetInfo()->checkFeatures(has))
      all += (all.empty() ? "" : ", ") + name.str();
  }
  const cpu::Machine machine = cpu::machineOf(cpu);
  const auto bits = 32 * static_cast<unsigned>(machine.lanes);
  if (machine.scalable && bits != cpu::hostSveBits())
    all += (all.empty() ? "" : ", ") + std::string("SVE registers of ") + std::to_string(bits) + " bits";
  return all;
}

}  // namespace weft
