// Writes the IR after each pass into a directory: VARIANT.KERNEL.NN-PASS.mlir, "(unchanged)" where a pass did nothing.
#pragma once

#include <memory>
#include <string>

#include "mlir/Pass/PassManager.h"

namespace weft {

class Dump {
 public:
  /// `directory`: empty: nothing is written. `name`: what files begin with.
  Dump(std::string directory, std::string name) : directory(std::move(directory)), name(std::move(name)) {}

  /// From here on what `passes` runs is written. The dump must outlive them.
  void attach(mlir::PassManager &passes);
  void write(const std::string &step, const std::string &extension, const std::string &text);

 private:
  std::string directory, name, previous;
  int count = 0;
};

}  // namespace weft
