// What the fake driver (fake_cuda.cpp) was asked for.
#pragma once

extern "C" {
/// A line each: "cubin sm_90", "refused cubin sm_80", "ptx", "launch ENTRY BLOCKS", or what the emulator found wrong.
const char *weftFakeRecord();
void weftFakeForget();
/// Once more what was launched since then, with the same arguments.
void weftFakeReplay();
}
