// A mistake of ours, not of the user: an always-on check that names the stage.
#pragma once

#include <stdexcept>
#include <string>

namespace weft {

/// Thrown inside the compiler only: `parse` makes a diagnostic of it, `compile` an error.
struct InternalError : std::logic_error {
  InternalError(const std::string &stage, const std::string &what)
      : std::logic_error("internal error in " + stage + ": " + what + " (please report it with the variant's text)") {}
};

inline void internalCheck(bool condition, const char *stage, const std::string &what) {
  if (!condition) throw InternalError(stage, what);
}

}  // namespace weft
