// Variants that calls make of others, by a parameter more in the text: each is made once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "compiler/compiler.h"

namespace weft::ops {

/// Of each variant two, by a flag. Thread-safe.
class MadeVariants {
 public:
  /// `source(variant, flag)`: the text of the other one; none where there is not one.
  using Source = std::function<std::optional<std::string>(const Variant &variant, bool flag)>;
  explicit MadeVariants(Source source) : source(std::move(source)) {}

  /// Null where there is not one, or its text would be too long.
  std::shared_ptr<const Variant> of(const std::shared_ptr<const Variant> &variant, bool flag);

 private:
  struct Made {
    std::shared_ptr<const Variant> of, variant;
  };
  const Source source;
  std::mutex mutex;
  std::map<std::pair<const Variant *, bool>, Made> all;
};

}  // namespace weft::ops
