// Ctrl-C as a flag that long loops look at.
#pragma once

namespace weft {

/// From now on SIGINT and SIGTERM set the flag; a second one ends the process at once.
void catchInterrupts();
bool interrupted();

}  // namespace weft
