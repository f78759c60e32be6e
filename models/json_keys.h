// JSON whose objects name no key twice: of two values one would be dropped in silence.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace weft {

/// Looks on while a text is parsed.
class KeysOnce {
 public:
  /// The key that this event gives its object for the second time, if it is one.
  std::optional<std::string> repeated(nlohmann::json::parse_event_t event, const nlohmann::json &parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) open.emplace_back();
    if (event == Event::object_end) open.pop_back();
    if (event != Event::key) return std::nullopt;
    const auto key = parsed.get<std::string>();
    return open.back().insert(key).second ? std::nullopt : std::optional(key);
  }

 private:
  std::vector<std::set<std::string>> open;  ///< the keys of the objects that are not complete
};

}  // namespace weft
