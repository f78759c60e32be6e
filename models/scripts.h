// The Python part, built into the program.
#pragma once

namespace weft {

extern const char *const enwik8Script;  ///< models/enwik8.py: FILE [--home URL] [--index URL]

}  // namespace weft
