#include "runtime/cpu/thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace weft::cpu {
namespace {

/// Several programs at a time when there are many: fewer visits to the counter.
int64_t chunkOf(int64_t count, int threads) { return std::max<int64_t>(1, count / (threads * 64)); }

class Pool {
 public:
  void run(int64_t count, int threads, const std::function<void(int64_t, int64_t, int)> &body) {
    std::lock_guard turn(oneCaller);
    ensure(threads - 1);
    {
      std::lock_guard lock(mutex);
      task = &body;
      total = count;
      chunk = chunkOf(count, threads);
      next.store(0);
      wanted = threads - 1;
      running = threads - 1;
      ++round;
    }
    wake.notify_all();
    work(0);
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return running == 0; });
    task = nullptr;
  }

 private:
  std::mutex oneCaller, mutex;
  std::condition_variable wake, done;
  std::vector<std::thread> workers;
  const std::function<void(int64_t, int64_t, int)> *task = nullptr;
  std::atomic<int64_t> next{0};
  int64_t total = 0, chunk = 1;
  int wanted = 0, running = 0;
  uint64_t round = 0;

  void ensure(int count) {
    while (static_cast<int>(workers.size()) < count) {
      const int number = static_cast<int>(workers.size()) + 1;
      workers.emplace_back([this, number, seen = round]() mutable {
        for (;;) {
          {
            std::unique_lock lock(mutex);
            wake.wait(lock, [&] { return round != seen; });
            seen = round;
            if (number > wanted) continue;
          }
          work(number);
          std::lock_guard lock(mutex);
          if (--running == 0) done.notify_one();
        }
      });
      workers.back().detach();
    }
  }

  void work(int worker) {
    for (;;) {
      const int64_t begin = next.fetch_add(chunk);
      if (begin >= total) return;
      (*task)(begin, std::min(total, begin + chunk), worker);
    }
  }
};

/// Never destroyed: its threads end with the process. A forked child starts with a new one.
Pool *&pool() {
  static Pool *instance = [] {
    pthread_atfork(nullptr, nullptr, [] { pool() = new Pool; });
    return new Pool;
  }();
  return instance;
}

}  // namespace

static std::atomic<void (*)(int, const std::function<void(int)> &)> foreignExecutor{nullptr};

void useExecutor(void (*executor)(int, const std::function<void(int)> &)) { foreignExecutor = executor; }

void parallelFor(int64_t count, int threads, const std::function<void(int64_t, int64_t, int)> &body) {
  if (count <= 0) return;
  threads = static_cast<int>(std::min<int64_t>(threads, count));
  if (threads <= 1) {
    body(0, count, 0);
  } else if (auto executor = foreignExecutor.load()) {
    std::atomic<int64_t> next{0};
    const int64_t chunk = chunkOf(count, threads);
    executor(threads, [&](int worker) {
      for (int64_t begin; (begin = next.fetch_add(chunk)) < count;) body(begin, std::min(count, begin + chunk), worker);
    });
  } else {
    pool()->run(count, threads, body);
  }
}

}  // namespace weft::cpu
