// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/worker_pool.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "base/assert.h"

namespace stablefs {
namespace {

// After a request that turned out to be slow (it waited for a device, most likely), this many are
// handed on at once: those behind it are often of its kind, and would wait for each other.
constexpr uint64_t kSlowNs = 50'000;
constexpr uint32_t kHandOnAfterSlow = 16;
// The watcher looks every kPatienceNs while there is work and sleeps after this many idle looks.
constexpr uint32_t kIdleLooksMax = 5;
// A receive that returns within this time did not wait for its request.
constexpr uint64_t kNotWaitedNs = 3'000;
constexpr uint32_t kLoadedAfter = 16;

}  // namespace

using Received = RequestWorker::Received;

WorkerPool::WorkerPool(const WorkerPoolOptions& options,
                       std::function<std::unique_ptr<RequestWorker>()> make_worker)
    : options_(options),
      parallel_max_(options.parallel_max != 0
                        ? options.parallel_max
                        : std::max(1u, std::thread::hardware_concurrency() / 2)),
      make_worker_(std::move(make_worker)) {}

WorkerPool::~WorkerPool() {
  MutexLock lock(mutex_);
  FS_ASSERT(threads_ == 0);
}

void WorkerPool::start() {
  MutexLock lock(mutex_);
  FS_ASSERT(threads_ == 0);
  add_thread();
  FS_ASSERT(threads_ == 1);
}

void WorkerPool::join() {
  std::list<Member> gone;
  {
    MutexLock lock(mutex_);
    while (threads_ > 0) all_gone_.wait(mutex_);
    gone.swap(members_);
  }
  gone.clear();
}

uint32_t WorkerPool::threads() {
  MutexLock lock(mutex_);
  return threads_;
}

void WorkerPool::add_thread() {
  members_.remove_if([](const Member& member) { return member.finished; });
  if (threads_ >= options_.threads_max) return;
  Member& member = members_.emplace_back();
  ++threads_;
  try {
    member.thread = Thread("fuse", [this, &member] { run(member); });
  } catch (const std::system_error&) {
    // The machine has no thread to give: those there are will come round to receiving.
    members_.pop_back();
    --threads_;
  }
}

void WorkerPool::run(Member& member) {
  const std::unique_ptr<RequestWorker> worker = make_worker_();
  while (lead(member)) {
    const uint64_t asked_ns = clock_.monotonic_ns();
    const Received received = worker->receive();
    if (!begin(member, *worker, received, asked_ns)) continue;
    do {
      worker->serve();
    } while (begin_set_aside(member, *worker));
    served(member, received == Received::short_request);
  }
  MutexLock lock(mutex_);
  member.finished = true;
  if (--threads_ == 0) all_gone_.notify_all();
}

bool WorkerPool::lead(Member& member) {
  MutexLock lock(mutex_);
  if (leader_ == &member) return !ended_;
  if (leader_ != nullptr && waiting_ >= options_.waiting_max) return false;
  ++waiting_;
  while (leader_ != nullptr && !ended_) {
    if (watched_) {
      may_lead_.wait(mutex_);
    } else {
      watched_ = true;
      watch();
      watched_ = false;
    }
  }
  --waiting_;
  if (ended_) return false;
  leader_ = &member;
  leader_serves_ = false;
  return true;
}

void WorkerPool::watch() {
  uint32_t idle_looks = 0;
  uint64_t begun = begun_;
  while (leader_ != nullptr && !ended_) {
    const uint64_t now_ns = clock_.monotonic_ns();
    if (leader_serves_ && now_ns - leader_->began_ns >= kPatienceNs) {
      hand_on_next_ = kHandOnAfterSlow;
      leader_ = nullptr;
      return;
    }
    idle_looks = begun_ == begun ? idle_looks + 1 : 0;
    begun = begun_;
    if (!leader_serves_ && idle_looks > kIdleLooksMax) {
      watcher_asleep_ = true;
      watcher_.wait(mutex_);
      watcher_asleep_ = false;
      idle_looks = 0;
    } else {
      const uint64_t from_ns = leader_serves_ ? leader_->began_ns : now_ns;
      watcher_.wait_until(mutex_, clock_, from_ns + kPatienceNs);
    }
  }
}

// Somebody has to watch a leader who serves, and the watcher has to be awake.
void WorkerPool::wake_watcher() {
  if (watched_) {
    if (watcher_asleep_) watcher_.notify_one();
  } else if (waiting_ > 0) {
    may_lead_.notify_one();
  } else {
    add_thread();
  }
}

void WorkerPool::hand_on() {
  leader_ = nullptr;
  if (watched_) {
    watcher_.notify_one();
  } else if (waiting_ > 0) {
    may_lead_.notify_one();
  } else if (!ended_) {
    add_thread();
  }
}

size_t WorkerPool::set_aside() {
  MutexLock lock(mutex_);
  return set_aside_.size();
}

bool WorkerPool::begin_set_aside(Member& member, RequestWorker& worker) {
  const uint64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  // What it has served may have been one of those the last threads are for.
  if (set_aside_.empty() || serving_ + options_.reserved > options_.threads_max) return false;
  worker.take(std::move(set_aside_.front()));
  set_aside_.pop_front();
  member.began_ns = now_ns;
  if (leader_ == &member) hand_on();
  return true;
}

bool WorkerPool::begin(Member& member, RequestWorker& worker, Received received,
                       uint64_t asked_ns) {
  const uint64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  FS_ASSERT(leader_ == &member);
  if (received == Received::nothing) return false;
  if (received == Received::ended) {
    ended_ = true;
    may_lead_.notify_all();
    watcher_.notify_all();
    return false;
  }
  const bool spare = serving_ + options_.reserved < options_.threads_max;
  if (!spare && received != Received::exclusive && worker.may_wait()) {
    set_aside_.push_back(worker.set_aside());
    return false;
  }
  if (received == Received::exclusive) {
    while (serving_ > 0) nobody_serves_.wait(mutex_);
  }
  ++begun_;
  ++serving_;
  member.began_ns = now_ns;
  if (received == Received::long_request) hand_on();
  if (received == Received::short_request) begin_short(member, now_ns - asked_ns > kNotWaitedNs);
  return true;
}

void WorkerPool::begin_short(Member& member, bool waited) {
  FS_ASSERT(leader_ == &member);
  without_waiting_ = waited ? 0 : without_waiting_ + 1;
  const bool loaded = without_waiting_ >= kLoadedAfter && serving_ < parallel_max_;
  if (hand_on_next_ > 0 || loaded) {
    if (hand_on_next_ > 0) --hand_on_next_;
    hand_on();
    return;
  }
  leader_serves_ = true;
  wake_watcher();
}

void WorkerPool::served(Member& member, bool short_request) {
  const uint64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  if (--serving_ == 0) nobody_serves_.notify_all();
  if (leader_ == &member) leader_serves_ = false;
  if (short_request && now_ns - member.began_ns >= kSlowNs) hand_on_next_ = kHandOnAfterSlow;
}

}  // namespace stablefs
