#include "compiler/target/cpu/target.h"

#include "compiler/passes.h"
#include "compiler/target/cpu/object_code.h"
#include "compiler/transforms/build_kernels.h"

namespace weft::cpu {
namespace {

class Cpu : public target::Target {
 public:
  bool claims(const std::string &) const override { return true; }
  bool knows(const std::string &name) const override { return isKnownCpu(name); }
  bool isGpu() const override { return false; }

  void addPasses(mlir::OpPassManager &passes, const CompileRequest &request) const override {
    passes.addPass(createChooseProducts({request.target, request.schedule.blockRows}));
    passes.addPass(createPackOperands());
    passes.addPass(createAssignScratch({request.target}));
    passes.addPass(createLowerToCpu({request.target, request.schedule.blockRows}));
    const Machine machine = machineOf(request.target);
    if (!machine.roundsToBf16) passes.addPass(createExpandBf16());
    passes.addPass(createExpandExp({machine.avx512}));
  }

  std::string generate(mlir::ModuleOp module, const CompileRequest &request) const override {
    const Output output = request.stage == Stage::Llvm       ? Output::Llvm
                          : request.stage == Stage::Assembly ? Output::Assembly
                                                             : Output::Object;
    return cpu::generate(module, request.target, output, isScalarProgram(request.kernel));
  }

  Schedule defaultSchedule(const Variant &variant, const std::string &, const std::map<std::string, int64_t> &, bool,
                           ElementType, int64_t) const override {
    return fitted(Schedule(), variant);
  }
  int64_t sharedBytes(mlir::ModuleOp, const CompileRequest &) const override { return 0; }
  std::string describe(const Schedule &schedule) const override {
    return "block " + std::to_string(schedule.blockRows);
  }
};

}  // namespace

const target::Target &cpuTarget() {
  static const Cpu target;
  return target;
}

}  // namespace weft::cpu
