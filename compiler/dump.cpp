#include "compiler/dump.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "llvm/Support/raw_ostream.h"
#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassInstrumentation.h"

namespace weft {
namespace {

class AfterPass : public mlir::PassInstrumentation {
 public:
  explicit AfterPass(Dump &dump) : dump(dump) {}

  void runAfterPass(mlir::Pass *pass, mlir::Operation *op) override {
    if (pass->getArgument().empty()) return;  // the adaptor that runs nested passes
    std::string text;
    llvm::raw_string_ostream stream(text);
    op->print(stream);
    dump.write(pass->getArgument().str(), "mlir", text);
  }

 private:
  Dump &dump;
};

}  // namespace

void Dump::attach(mlir::PassManager &passes) {
  if (!directory.empty()) passes.addInstrumentation(std::make_unique<AfterPass>(*this));
}

void Dump::write(const std::string &step, const std::string &extension, const std::string &text) {
  if (directory.empty()) return;
  std::filesystem::create_directories(directory);
  char number[16];
  std::snprintf(number, sizeof number, "%02d", ++count);
  std::ofstream(directory + "/" + name + "." + number + "-" + step + "." + extension)
      << (text == previous ? "(unchanged)\n" : text);
  previous = text;
}

}  // namespace weft
