// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/stale_times.h"

#include <algorithm>

namespace stablefs {
namespace {

// The closing process lets go of the name just after RELEASE.
constexpr uint64_t kFirstDelayNs = kNsPerMs / 2;
constexpr uint64_t kDelayFactor = 4;
constexpr uint64_t kDelayMaxNs = 10 * kNsPerSecond;

}  // namespace

void StaleTimes::add(Ino ino) {
  MutexLock lock(mutex_);
  if (stop_) return;
  begin(files_[ino]);
  count_.store(files_.size(), std::memory_order_relaxed);
  if (!thread_.joinable()) thread_ = Thread("stale times", [this] { run(); });
}

void StaleTimes::hasten(Ino ino) {
  if (count_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(mutex_);
  const auto entry = files_.find(ino);
  if (entry != files_.end()) begin(entry->second);
}

void StaleTimes::begin(Entry& entry) {
  entry = {clock_.monotonic_ns() + kFirstDelayNs, kFirstDelayNs};
  work_.notify_one();
}

void StaleTimes::remove(Ino ino) {
  if (count_.load(std::memory_order_relaxed) == 0) return;
  MutexLock lock(mutex_);
  files_.erase(ino);
  count_.store(files_.size(), std::memory_order_relaxed);
}

void StaleTimes::stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    work_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void StaleTimes::run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    const auto next =
        std::ranges::min_element(files_, {}, [](const auto& entry) { return entry.second.due_ns; });
    if (next == files_.end()) {
      work_.wait(mutex_);
      continue;
    }
    if (next->second.due_ns > clock_.monotonic_ns()) {
      work_.wait_until(mutex_, clock_, next->second.due_ns);
      continue;
    }
    const Ino ino = next->first;
    Entry& entry = next->second;
    entry.delay_ns = std::min(entry.delay_ns * kDelayFactor, kDelayMaxNs);
    entry.due_ns = clock_.monotonic_ns() + entry.delay_ns;
    // Without the lock: the kernel may have a FORGET for us before it returns.
    lock.unlock();
    ask_to_forget_(ino);
    lock.lock();
  }
}

}  // namespace stablefs
