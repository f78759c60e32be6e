// Worker threads that live as long as the process and share out the programs of a grid.
#pragma once

#include <cstdint>
#include <functional>

namespace weft::cpu {

/// Calls body(begin, end, worker) until 0 .. count is covered, on at most `threads` threads, the
/// caller's among them; worker numbers the threads from 0. Calls from several threads take turns.
void parallelFor(int64_t count, int threads, const std::function<void(int64_t begin, int64_t end, int worker)> &body);

/// Work then runs on `executor`'s threads and no own ones are made.
void useExecutor(void (*executor)(int threads, const std::function<void(int worker)> &work));

}  // namespace weft::cpu
