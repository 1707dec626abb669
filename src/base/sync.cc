// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/sync.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/assert.h"
#include "base/held_locks.h"
#include "base/scheduler_core.h"

namespace stablefs {
namespace {

SchedulerCore* scheduler() {
  return sim_identity.core;
}

}  // namespace

void Mutex::take() {
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.lock();
  } else {
    core->point(SimEvent::lock);
    while (sim_held_) core->block(this, name_);
    sim_held_ = true;
  }
  held_locks().add(this, rank_, name_);
}

void Mutex::lock() {
  held_locks().check(this, rank_, name_, false);
  take();
}

void Mutex::lock_same_rank() {
  FS_ASSERT(rank_ != LockRank::leaf);
  held_locks().check(this, rank_, name_, true);
  take();
}

void Mutex::unlock() {
  held_locks().remove(this, name_);
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.unlock();
    return;
  }
  sim_held_ = false;
  core->unblock(this);
  core->point(SimEvent::unlock);
}

void SharedMutex::take_exclusive() {
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.lock();
  } else {
    core->point(SimEvent::lock);
    while (sim_holders_ != 0) core->block(this, name_);
    sim_holders_ = -1;
  }
  held_locks().add(this, rank_, name_);
}

void SharedMutex::lock() {
  held_locks().check(this, rank_, name_, false);
  take_exclusive();
}

void SharedMutex::lock_same_rank() {
  FS_ASSERT(rank_ != LockRank::leaf);
  held_locks().check(this, rank_, name_, true);
  take_exclusive();
}

void SharedMutex::unlock() {
  held_locks().remove(this, name_);
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.unlock();
    return;
  }
  sim_holders_ = 0;
  core->unblock(this);
  core->point(SimEvent::unlock);
}

void SharedMutex::lock_shared() {
  held_locks().check(this, rank_, name_, false);
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.lock_shared();
  } else {
    core->point(SimEvent::lock);
    while (sim_holders_ < 0) core->block(this, name_);
    ++sim_holders_;
  }
  held_locks().add(this, rank_, name_);
}

void SharedMutex::unlock_shared() {
  held_locks().remove(this, name_);
  SchedulerCore* core = scheduler();
  if (core == nullptr) {
    mutex_.unlock_shared();
    return;
  }
  if (--sim_holders_ == 0) core->unblock(this);
  core->point(SimEvent::unlock);
}

// The mutex is given up and the wait begun in one step; afterwards it is taken again.
bool CondVar::wait_scheduled(Mutex& mutex, std::optional<uint64_t> timeout_ns) {
  SchedulerCore* core = scheduler();
  mutex.sim_held_ = false;
  core->unblock(&mutex);
  const bool notified = core->wait(this, mutex.name_, timeout_ns);
  while (mutex.sim_held_) core->block(&mutex, mutex.name_);
  mutex.sim_held_ = true;
  return notified;
}

void CondVar::wait(Mutex& mutex) {
  held_locks().check_wait(&mutex, mutex.name_);
  held_locks().remove(&mutex, mutex.name_);
  if (scheduler() != nullptr) {
    wait_scheduled(mutex, std::nullopt);
  } else {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  held_locks().add(&mutex, mutex.rank_, mutex.name_);
}

bool CondVar::wait_until(Mutex& mutex, Clock& clock, uint64_t deadline_ns) {
  const uint64_t now_ns = clock.monotonic_ns();
  if (deadline_ns <= now_ns) return false;
  // A far deadline must not overflow the library's signed arithmetic; an early wake-up is allowed.
  const uint64_t timeout_ns = std::min(deadline_ns - now_ns, 3600 * kNsPerSecond);
  bool notified = false;

  held_locks().check_wait(&mutex, mutex.name_);
  held_locks().remove(&mutex, mutex.name_);
  if (scheduler() != nullptr) {
    notified = wait_scheduled(mutex, timeout_ns);
  } else {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const auto outcome = condition_.wait_for(lock, std::chrono::nanoseconds(timeout_ns));
    notified = outcome == std::cv_status::no_timeout;
    lock.release();
  }
  held_locks().add(&mutex, mutex.rank_, mutex.name_);
  return notified || timeout_ns < deadline_ns - now_ns;
}

void CondVar::notify_one() {
  if (SchedulerCore* core = scheduler()) {
    core->notify(this, false);
  } else {
    condition_.notify_one();
  }
}

void CondVar::notify_all() {
  if (SchedulerCore* core = scheduler()) {
    core->notify(this, true);
  } else {
    condition_.notify_all();
  }
}

struct Thread::Impl {
  std::thread thread;
  std::shared_ptr<SimThread> scheduled;  // null outside a scheduler's run
};

Thread::Thread(std::string name, std::function<void()> body) : impl_(std::make_shared<Impl>()) {
  if (SchedulerCore* core = scheduler()) {
    impl_->scheduled = core->start(std::move(name), std::move(body), impl_->thread);
    return;
  }
  impl_->thread = std::thread([name = std::move(name), body = std::move(body)] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());  // the kernel's limit
    body();
  });
}

Thread::~Thread() {
  if (joinable()) join();
}

Thread& Thread::operator=(Thread&& other) noexcept {
  if (this == &other) return *this;
  if (joinable()) join();
  impl_ = std::move(other.impl_);
  return *this;
}

void Thread::join() {
  FS_ASSERT(joinable());
  SchedulerCore* core = scheduler();
  if (core != nullptr && impl_->scheduled) core->join(*impl_->scheduled);
  impl_->thread.join();
  impl_ = nullptr;
}

}  // namespace stablefs
