// SPDX-License-Identifier: GPL-2.0-or-later
// The only place that names the standard library's locks and threads.
//
// Every lock has a rank; a thread may only take locks of increasing rank (checked at run time) and
// clang checks what each lock guards (-Wthread-safety). A thread started under a Scheduler (see
// base/scheduler.h) passes a baton at every lock, wait, notify and start, so that exactly one
// thread runs at a time and the order is a function of the seed. Plain atomics are not scheduled.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <thread>

#include "base/clock.h"

#if defined(__clang__)
#define FS_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define FS_THREAD_ANNOTATION(x)
#endif
#define FS_CAPABILITY(x) FS_THREAD_ANNOTATION(capability(x))
#define FS_SCOPED_CAPABILITY FS_THREAD_ANNOTATION(scoped_lockable)
#define FS_GUARDED_BY(x) FS_THREAD_ANNOTATION(guarded_by(x))
#define FS_PT_GUARDED_BY(x) FS_THREAD_ANNOTATION(pt_guarded_by(x))
#define FS_REQUIRES(...) FS_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define FS_REQUIRES_SHARED(...) FS_THREAD_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define FS_EXCLUDES(...) FS_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define FS_ACQUIRE(...) FS_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define FS_ACQUIRE_SHARED(...) FS_THREAD_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define FS_RELEASE(...) FS_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define FS_RELEASE_SHARED(...) FS_THREAD_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define FS_RELEASE_GENERIC(...) FS_THREAD_ANNOTATION(release_generic_capability(__VA_ARGS__))
#define FS_RETURN_CAPABILITY(x) FS_THREAD_ANNOTATION(lock_returned(x))
#define FS_NO_THREAD_SAFETY_ANALYSIS FS_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace stablefs {

// Lock ranks, taken in increasing order. Two locks of one rank may be held together only where
// Mutex::lock_same_rank says by which order they are taken (inodes: by number).
enum class LockRank : uint16_t {
  control = 5,       // tools' control socket
  session = 10,      // FUSE session state
  rename = 20,       // one cross-directory rename at a time
  inode = 30,        // one inode's namespace and attributes
  range = 40,        // range lock tickets of one inode
  attributes = 45,   // one inode's item: from building it until its transaction is applied
  reservation = 50,  // waiting for journal or data space
  writeback = 60,    // writeback scheduling lists
  page = 70,         // one inode's page map and ordered extents
  inode_table = 80,  // table of inodes in memory
  tree = 90,         // the in-memory B+tree, sequence assignment
  space = 100,       // space maps, pending frees, pins
  journal = 110,     // journal buffer and ring state
  device = 120,      // device queues
  statistics = 130,  // histograms
  log = 140,
  leaf = 200,  // locks under which nothing else is ever taken
};

class FS_CAPABILITY("mutex") Mutex {
 public:
  explicit Mutex(LockRank rank, const char* name = "") : rank_(rank), name_(name) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() FS_ACQUIRE();
  void unlock() FS_RELEASE();
  // As lock(), but allows another lock of this rank to be held already; the caller orders them.
  void lock_same_rank() FS_ACQUIRE();
  LockRank rank() const { return rank_; }
  const char* name() const { return name_; }

 private:
  friend class CondVar;
  void take();

  std::mutex mutex_;
  bool sim_held_ = false;  // under a Scheduler the baton guards this, mutex_ is unused
  const LockRank rank_;
  const char* const name_;
};

class FS_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) FS_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() FS_RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() FS_RELEASE() {
    held_ = false;
    mutex_.unlock();
  }
  void lock() FS_ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

class FS_CAPABILITY("shared_mutex") SharedMutex {
 public:
  explicit SharedMutex(LockRank rank, const char* name = "") : rank_(rank), name_(name) {}
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void lock() FS_ACQUIRE();
  void unlock() FS_RELEASE();
  void lock_shared() FS_ACQUIRE_SHARED();
  void unlock_shared() FS_RELEASE_SHARED();
  void lock_same_rank() FS_ACQUIRE();
  LockRank rank() const { return rank_; }

 private:
  void take_exclusive();

  std::shared_mutex mutex_;
  int sim_holders_ = 0;  // -1 exclusive, n shared; used under a Scheduler only
  const LockRank rank_;
  const char* const name_;
};

class FS_SCOPED_CAPABILITY ExclusiveLock {
 public:
  explicit ExclusiveLock(SharedMutex& mutex) FS_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~ExclusiveLock() FS_RELEASE() { mutex_.unlock(); }
  ExclusiveLock(const ExclusiveLock&) = delete;
  ExclusiveLock& operator=(const ExclusiveLock&) = delete;

 private:
  SharedMutex& mutex_;
};

class FS_SCOPED_CAPABILITY SharedLock {
 public:
  explicit SharedLock(SharedMutex& mutex) FS_ACQUIRE_SHARED(mutex) : mutex_(mutex) {
    mutex_.lock_shared();
  }
  ~SharedLock() FS_RELEASE_GENERIC() { mutex_.unlock_shared(); }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;

 private:
  SharedMutex& mutex_;
};

// Waits are for a condition: call in a loop. The Mutex must be held.
class CondVar {
 public:
  void wait(Mutex& mutex) FS_REQUIRES(mutex);
  // Returns false when `deadline_ns` (monotonic) has passed. Under a Scheduler the time-out may
  // strike at any moment the seed chooses.
  bool wait_until(Mutex& mutex, Clock& clock, uint64_t deadline_ns) FS_REQUIRES(mutex);
  void notify_one();
  void notify_all();

 private:
  bool wait_scheduled(Mutex& mutex, std::optional<uint64_t> timeout_ns);

  std::condition_variable condition_;
};

// A joining thread. Under a Scheduler, started threads belong to the starter's scheduler.
class Thread {
 public:
  Thread() = default;
  Thread(std::string name, std::function<void()> body);
  ~Thread();
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&&) noexcept;  // joins the thread it replaces

  void join();
  bool joinable() const { return impl_ != nullptr; }

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace stablefs
