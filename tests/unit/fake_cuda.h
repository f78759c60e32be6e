// What the fake driver (fake_cuda.cpp) was asked for.
#pragma once

#include <cstddef>

extern "C" {
/// A line each: "cubin sm_90", "refused cubin sm_80", "ptx", "launch ENTRY BLOCKS" ("... stream HANDLE" where it is not
/// the default one), or what the emulator found wrong.
const char *weftFakeRecord();
void weftFakeForget();
/// How many launches there were since then; those from `begin` to `end` once more, with the same arguments.
size_t weftFakeLaunches();
void weftFakeReplay(size_t begin, size_t end);
}
