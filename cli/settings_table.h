// weft train --help-settings: every setting of a model and its training, as a table.
#pragma once

#include <string>

namespace weft::cli {

/// A line a setting: name, default, values, meaning.
std::string describeSettings();

}  // namespace weft::cli
