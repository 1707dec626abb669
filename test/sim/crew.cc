// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/crew.h"

#include <malloc.h>
#include <sched.h>

#include <atomic>
#include <vector>

#include "base/sync.h"

namespace stablefs::sim {
namespace {

constexpr size_t kThreadsMax = 4;

std::vector<int> processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> result;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE && result.size() < kThreadsMax; ++i) {
      if (CPU_ISSET(i, &set)) result.push_back(i);
    }
  }
  if (result.empty()) result.push_back(-1);
  return result;
}

// The threads of a run stay on one processor: two runs must not choose the same.
void stay_on(int processor) {
  if (processor < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  (void)sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

void share_jobs(uint64_t count, const std::function<bool(uint64_t)>& job) {
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stop{false};
  std::vector<Thread> threads;
  for (const int processor : processors()) {
    threads.emplace_back("crew", [&, processor] {
      stay_on(processor);
      while (!stop) {
        const uint64_t number = next.fetch_add(1);
        if (number >= count) return;
        if (!job(number)) stop = true;
      }
    });
  }
  for (Thread& thread : threads) thread.join();
}

uint64_t slowness() {
#if defined(__SANITIZE_THREAD__)
  return 15;
#elif defined(__SANITIZE_ADDRESS__)
  return 6;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
  return 15;
#elif __has_feature(address_sanitizer)
  return 6;
#else
  return 1;
#endif
#else
  return 1;
#endif
}

void keep_freed_memory() {
  constexpr int kBytes = 256 << 20;
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, kBytes);
}

}  // namespace stablefs::sim
