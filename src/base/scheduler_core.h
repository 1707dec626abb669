// SPDX-License-Identifier: GPL-2.0-or-later
// The scheduler's inside: for sync.cc and scheduler.cc only.
//
// Whoever holds the baton owns all state of the core; passing it (a mutex and a condition variable
// per thread) orders the accesses. Only the baton itself is touched by threads that do not hold it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/held_locks.h"
#include "base/prng.h"
#include "base/scheduler.h"

namespace stablefs {

enum class SimEvent : uint8_t { start, lock, unlock, wait, notify, join, yield, wake, finish };

class Baton {
 public:
  void give();
  void take();  // waits until it is given

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  bool here_ = false;
};

struct SimThread {
  enum class State : uint8_t {
    runnable,
    blocked,  // on a lock or a join: continues when it is free
    waiting,  // on a condition variable
    finished,
  };

  uint32_t id = 0;
  std::string name;
  std::string context;  // for failed assertions
  State state = State::runnable;
  const void* blocked_on = nullptr;
  const char* blocked_name = "";
  std::optional<uint64_t> deadline_ns;  // of a timed wait
  bool timed_out = false;
  const HeldLocks* held = nullptr;
  Baton baton;
};

class SchedulerCore : public std::enable_shared_from_this<SchedulerCore> {
 public:
  explicit SchedulerCore(SchedulerOptions options);

  RunOutcome run(std::function<void()> main);

  // All of these: by the thread that holds the baton, about itself.
  void point(SimEvent event);
  void block(const void* object, const char* name);
  void unblock(const void* object);
  // False when the wait timed out after `timeout_ns`. `name` is that of the waiter's mutex.
  bool wait(const void* condition, const char* name, std::optional<uint64_t> timeout_ns);
  void notify(const void* condition, bool all);
  std::shared_ptr<SimThread> start(std::string name, std::function<void()> body,
                                   std::thread& thread);
  void join(SimThread& target);

  uint64_t seed() const { return options_.seed; }
  uint64_t event_hash() const { return hash_; }
  uint64_t event_count() const { return events_; }
  uint64_t now_ns() const { return now_ns_; }
  const std::string& report() const { return report_; }

 private:
  using Threads = std::vector<std::shared_ptr<SimThread>>;

  void thread_main(SimThread& self, std::function<void()> body);
  void finish(SimThread& self);
  void record(SimEvent event, const SimThread& thread);
  void disturb();
  void wake(SimThread& thread, bool timed_out);
  bool expire_earliest();
  SimThread* choose();
  SimThread* choose_or_fail();
  void hand_over(SimThread& self);
  void end_run(RunOutcome outcome);
  [[noreturn]] void fail(RunOutcome outcome, const char* what);
  std::string describe_threads() const;

  const SchedulerOptions options_;
  Prng prng_;
  uint64_t switch_one_in_;   // how eagerly this run changes threads
  uint64_t disturb_one_in_;  // how often it ends a wait early; 0: never
  Threads threads_;          // unfinished ones, by id
  uint32_t last_id_ = 0;
  uint64_t events_ = 0;
  uint64_t hash_ = 0;
  uint64_t now_ns_ = kNsPerSecond;
  std::string report_;
  std::exception_ptr exception_;

  // How run() hears of the end.
  Baton ended_;
  RunOutcome outcome_ = RunOutcome::completed;
};

// Who the calling thread is in a run; null outside.
struct SimIdentity {
  SchedulerCore* core = nullptr;
  SimThread* thread = nullptr;
};
extern constinit thread_local SimIdentity sim_identity;

}  // namespace stablefs
