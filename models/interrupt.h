// Ctrl-C and its kin as a flag that long loops look at.
#pragma once

namespace weft {

/// From now on SIGINT, SIGTERM, SIGHUP and SIGPIPE set the flag, so that work is saved before the process ends. SIGHUP
/// stays ignored where it was (nohup). A SIGINT a second or more after the first ends the process at once.
void catchInterrupts();
bool interrupted();
/// What a shell expects of a process that the signal ended: 128 + its number (130 after Ctrl-C, 143 SIGTERM, 129
/// SIGHUP, 141 SIGPIPE); 0 where none came.
int interruptCode();

}  // namespace weft
