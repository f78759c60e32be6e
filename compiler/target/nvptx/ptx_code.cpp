#include "compiler/target/nvptx/ptx_code.h"

#include <mutex>

#include "compiler/internal_error.h"
#include "compiler/target/llvm_code.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/Instructions.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/TargetSelect.h"

namespace weft::nvptx {
namespace {

std::unique_ptr<llvm::TargetMachine> targetMachine(const std::string &name) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
    // 32-bit pointers to shared memory: half the registers. LLVM has no other switch for it.
    auto &all = llvm::cl::getRegisteredOptions();
    if (auto found = all.find("nvptx-short-ptr"); found != all.end())
      static_cast<llvm::cl::opt<bool> *>(found->second)->setValue(true);
  });
  const llvm::Triple triple("nvptx64-nvidia-cuda");
  std::string message;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, message);
  internalCheck(target != nullptr, "code generation", message);
  // Vectors of atomic sums are of a later ISA than the least that sm_90 has.
  const char *features = name.starts_with("sm_90") ? "+ptx81" : "";
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Standard;
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, name, features, options, llvm::Reloc::PIC_, std::nullopt, llvm::CodeGenOptLevel::Aggressive));
}

/// What all threads of a warp do together stays where they come to it together: LLVM does not read the text of asm.
void keepConverged(llvm::Module &code) {
  for (llvm::Function &function : code)
    for (llvm::BasicBlock &block : function)
      for (llvm::Instruction &instruction : block) {
        auto *call = llvm::dyn_cast<llvm::CallInst>(&instruction);
        auto *text = call ? llvm::dyn_cast<llvm::InlineAsm>(call->getCalledOperand()) : nullptr;
        if (text && llvm::StringRef(text->getAsmString()).contains(".aligned"))
          call->addFnAttr(llvm::Attribute::Convergent);
      }
}

}  // namespace

bool isKnownTarget(const std::string &name) {
  if (name.rfind("sm_", 0) != 0 || std::atoi(name.c_str() + 3) < 80) return false;
  return targetMachine("sm_80")->getMCSubtargetInfo()->isCPUStringValid(name);
}

std::string generate(mlir::ModuleOp module, const std::string &name, Output output) {
  llvm::LLVMContext context;
  auto target = targetMachine(name);
  std::unique_ptr<llvm::Module> code = target::toLlvmIr(module, context, *target);
  for (llvm::Function &function : *code)
    if (!function.isDeclaration()) function.addFnAttr(llvm::Attribute::NoUnwind);
  keepConverged(*code);
  target::optimize(*code, *target, target::Loops::Unroll);
  if (output == Output::Ptx) return target::emitFile(*code, *target, true, target::Loops::Unroll);
  std::string text;
  llvm::raw_string_ostream stream(text);
  code->print(stream, nullptr);
  return text;
}

}  // namespace weft::nvptx
