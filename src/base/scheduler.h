// SPDX-License-Identifier: GPL-2.0-or-later
// A seeded scheduler for tests: real threads, of which exactly one runs at a time.
//
// Every operation of base/sync.h is a scheduling point at which the seed decides who runs next, so
// that a failing schedule replays from its seed. Timed waits end when the seed says so; the virtual
// clock then jumps to their deadline. Untimed waits may wake without cause. A run in which nobody
// can continue is reported with what each thread holds and waits for.
//
// Only threads started through stablefs::Thread inside run() belong to it. Objects they share must
// not be used by other threads during the run, and a thread of the run must not block on anything
// but base/sync.h: it would take the baton to sleep with it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"

namespace stablefs {

class SchedulerCore;

enum class RunOutcome : uint8_t { completed, deadlock, event_limit };

struct SchedulerOptions {
  uint64_t seed = 1;
  uint64_t max_events = 20'000'000;  // a run that needs more is taken for a livelock
  // Print the report and abort the process when the run fails. Else run() returns the outcome and
  // leaves the stuck threads behind, asleep for ever.
  bool abort_on_failure = true;
};

class Scheduler {
 public:
  explicit Scheduler(uint64_t seed) : Scheduler(SchedulerOptions{.seed = seed}) {}
  explicit Scheduler(SchedulerOptions options);

  // Runs `main` and all threads it starts to their end; once per Scheduler. Rethrows the first
  // exception that left a thread.
  RunOutcome run(std::function<void()> main);

  // A digest of all scheduling events: equal for two runs exactly when they went the same way.
  uint64_t event_hash() const;
  uint64_t event_count() const;
  uint64_t now_ns() const;
  const std::string& report() const;  // of a failed run

  // A scheduling point for code that shares plain atomics; nothing outside a run.
  static void yield();
  // Whether the calling thread belongs to a run.
  static bool active();

 private:
  std::shared_ptr<SchedulerCore> core_;
};

// The scheduler's virtual time: it advances a little with every event and jumps to the deadlines of
// timed waits.
class SimClock final : public Clock {
 public:
  explicit SimClock(const Scheduler& scheduler) : scheduler_(scheduler) {}
  uint64_t monotonic_ns() override { return scheduler_.now_ns(); }
  Timestamp wall_time() override;

 private:
  const Scheduler& scheduler_;
};

}  // namespace stablefs
