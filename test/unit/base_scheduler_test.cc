// SPDX-License-Identifier: GPL-2.0-or-later
// The seeded scheduler: runs replay, and the bugs it exists for are found.
#include <catch2/catch.hpp>
#include <set>
#include <stdexcept>
#include <vector>

#include "base/assert.h"
#include "base/scheduler.h"
#include "base/sync.h"
#include "death.h"

using namespace stablefs;

namespace {

constexpr uint64_t kSeeds = 200;

struct Trace {
  uint64_t hash = 0;
  std::vector<int> order;
  bool operator==(const Trace&) const = default;
};

// Three threads that add their number to a list under a lock.
Trace contend(uint64_t seed) {
  Scheduler scheduler(seed);
  Trace trace;
  scheduler.run([&trace] {
    Mutex mutex(LockRank::leaf, "list");
    std::vector<Thread> threads;
    for (int id = 0; id < 3; ++id) {
      threads.emplace_back("adder", [&mutex, &trace, id] {
        for (int i = 0; i < 5; ++i) {
          MutexLock lock(mutex);
          trace.order.push_back(id);
        }
      });
    }
  });
  trace.hash = scheduler.event_hash();
  return trace;
}

SchedulerOptions quiet(uint64_t seed) {
  SchedulerOptions options;
  options.seed = seed;
  options.abort_on_failure = false;
  return options;
}

// How many seeds end in each way.
std::set<RunOutcome> outcomes_of(const std::function<void()>& body) {
  std::set<RunOutcome> outcomes;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Scheduler scheduler(quiet(seed));
    outcomes.insert(scheduler.run(body));
  }
  return outcomes;
}

// A one-item mailbox; the broken kind looks at the flag without the lock that guards it, so that
// the notification can fall between the look and the wait.
void mailbox(bool broken) {
  Mutex mutex(LockRank::leaf, "mailbox");
  CondVar arrived;
  std::atomic<bool> full{false};
  Thread consumer("consumer", [&] {
    if (broken) {
      const bool empty = !full;
      Scheduler::yield();
      MutexLock lock(mutex);
      if (empty) arrived.wait(mutex);
      return;
    }
    MutexLock lock(mutex);
    while (!full) arrived.wait(mutex);
  });
  {
    MutexLock lock(mutex);
    full = true;
    arrived.notify_one();
  }
  consumer.join();
}

}  // namespace

TEST_CASE("a seed run twice goes the same way") {
  for (uint64_t seed = 1; seed <= 20; ++seed) CHECK(contend(seed) == contend(seed));
}

TEST_CASE("different seeds give different schedules") {
  std::set<uint64_t> hashes;
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Trace trace = contend(seed);
    CHECK(trace.order.size() == 15);
    hashes.insert(trace.hash);
    orders.insert(trace.order);
  }
  CHECK(hashes.size() > kSeeds * 3 / 4);
  CHECK(orders.size() > kSeeds / 2);
}

TEST_CASE("one thread runs at a time, and a mutex excludes") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Scheduler scheduler(seed);
    int inside = 0;
    int plain = 0;  // not atomic: only correct when threads do not run at once
    scheduler.run([&] {
      Mutex mutex(LockRank::leaf, "m");
      SharedMutex shared(LockRank::tree, "s");
      std::vector<Thread> threads;
      for (int t = 0; t < 4; ++t) {
        threads.emplace_back("worker", [&, t] {
          for (int i = 0; i < 10; ++i) {
            ++plain;
            if (t == 0) {
              ExclusiveLock lock(shared);
              FS_ASSERT(++inside == 1);
              Scheduler::yield();
              --inside;
            } else {
              SharedLock lock(shared);
              FS_ASSERT(inside == 0);
              Scheduler::yield();
              MutexLock inner(mutex);
              FS_ASSERT(inside == 0);
            }
          }
        });
      }
    });
    CHECK(plain == 40);
  }
}

TEST_CASE("a lost wake-up is found") {
  CHECK(outcomes_of([] { mailbox(false); }) == std::set<RunOutcome>{RunOutcome::completed});
  CHECK(outcomes_of([] { mailbox(true); }).count(RunOutcome::deadlock) == 1);
}

TEST_CASE("a wait that is not in a loop is found") {
  bool found = false;
  for (uint64_t seed = 1; seed <= kSeeds && !found; ++seed) {
    Scheduler scheduler(quiet(seed));
    scheduler.run([&found] {
      Mutex mutex(LockRank::leaf, "m");
      CondVar changed;
      bool ready = false;
      Thread waiter("waiter", [&] {
        MutexLock lock(mutex);
        if (!ready) changed.wait(mutex);
        if (!ready) found = true;
      });
      for (int i = 0; i < 20; ++i) Scheduler::yield();
      MutexLock lock(mutex);
      ready = true;
      changed.notify_all();
    });
  }
  CHECK(found);
}

TEST_CASE("a deadlock is reported with who holds and who waits") {
  std::string report;
  for (uint64_t seed = 1; seed <= kSeeds && report.empty(); ++seed) {
    Scheduler scheduler(quiet(seed));
    scheduler.run([] {
      // Of equal rank and said to be ordered, wrongly: the rank check cannot see this one.
      Mutex a(LockRank::inode, "inode A");
      Mutex b(LockRank::inode, "inode B");
      const auto both = [](Mutex& first, Mutex& second) FS_NO_THREAD_SAFETY_ANALYSIS {
        first.lock();
        second.lock_same_rank();
        second.unlock();
        first.unlock();
      };
      Thread one("one", [&] { both(a, b); });
      Thread two("two", [&] { both(b, a); });
    });
    report = scheduler.report();
  }
  CHECK(report.find("deadlock") != std::string::npos);
  CHECK(report.find("'one' is blocked on 'inode B'; it holds 'inode A'") != std::string::npos);
  CHECK(report.find("'two' is blocked on 'inode A'; it holds 'inode B'") != std::string::npos);
  CHECK(report.find("'main' is blocked on 'two'") != std::string::npos);
  CHECK(report.find("seed") != std::string::npos);
}

TEST_CASE("a failed run aborts the process and prints its seed unless told otherwise") {
  if (!kChildMayStartThreads) return;
  const std::string output = output_of_death([] {
    Scheduler scheduler(4711);
    scheduler.run([] {
      Mutex mutex(LockRank::leaf, "m");
      CondVar never;
      MutexLock lock(mutex);
      while (true) never.wait(mutex);
    });
  });
  CHECK(output.find("seed 4711") != std::string::npos);
  CHECK(output.find("waits for a condition under 'm'") != std::string::npos);
}

TEST_CASE("a rank violation in a run names the seed and the thread") {
  if (!kChildMayStartThreads) return;
  const std::string output = output_of_death([] {
    Scheduler scheduler(4712);
    scheduler.run([] {
      Mutex page(LockRank::page, "page");
      Mutex inode(LockRank::inode, "inode");
      Thread wrong("wrong one", [&] {
        MutexLock a(page);
        MutexLock b(inode);
      });
    });
  });
  CHECK(output.find("rank violation") != std::string::npos);
  CHECK(output.find("wrong one") != std::string::npos);
  CHECK(output.find("4712") != std::string::npos);
}

TEST_CASE("a livelock ends at the event limit") {
  SchedulerOptions options = quiet(1);
  options.max_events = 1000;
  Scheduler scheduler(options);
  const RunOutcome outcome = scheduler.run([] {
    while (true) Scheduler::yield();
  });
  CHECK(outcome == RunOutcome::event_limit);
}

TEST_CASE("a timed wait nobody answers ends, and virtual time passes without real time") {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    SystemClock real;
    const uint64_t real_start_ns = real.monotonic_ns();
    scheduler.run([&clock] {
      Mutex mutex(LockRank::leaf, "m");
      CondVar never;
      MutexLock lock(mutex);
      const uint64_t start_ns = clock.monotonic_ns();
      const uint64_t deadline_ns = start_ns + 600 * kNsPerSecond;
      while (never.wait_until(mutex, clock, deadline_ns)) {
      }
      FS_ASSERT(clock.monotonic_ns() >= deadline_ns);
    });
    CHECK(clock.monotonic_ns() >= 600 * kNsPerSecond);
    CHECK(clock.wall_time().seconds >= 1'700'000'600);
    CHECK(real.monotonic_ns() - real_start_ns < 60 * kNsPerSecond);
  }
}

TEST_CASE("earlier deadlines strike first when nobody else can run") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    std::vector<int> order;
    uint64_t struck_ns[2] = {};
    scheduler.run([&] {
      Mutex mutex(LockRank::leaf, "m");
      CondVar never;
      std::vector<Thread> sleepers;
      for (int i = 0; i < 2; ++i) {
        sleepers.emplace_back("sleeper", [&, i] {
          MutexLock lock(mutex);
          const uint64_t deadline_ns = (i + 2) * kNsPerSecond;
          while (never.wait_until(mutex, clock, deadline_ns)) {
          }
          struck_ns[i] = clock.monotonic_ns();
        });
      }
    });
    CHECK(struck_ns[0] >= 2 * kNsPerSecond);
    CHECK(struck_ns[1] >= 3 * kNsPerSecond);
  }
}

TEST_CASE("a time-out may strike although an answer is on its way") {
  std::set<bool> answered;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    scheduler.run([&] {
      Mutex mutex(LockRank::leaf, "m");
      CondVar changed;
      bool ready = false;
      Thread answerer("answerer", [&] {
        for (int i = 0; i < 10; ++i) Scheduler::yield();
        MutexLock lock(mutex);
        ready = true;
        changed.notify_all();
      });
      MutexLock lock(mutex);
      const uint64_t deadline_ns = clock.monotonic_ns() + kNsPerSecond;
      while (!ready && changed.wait_until(mutex, clock, deadline_ns)) {
      }
      answered.insert(ready);
      lock.unlock();
      answerer.join();
      lock.lock();
    });
  }
  CHECK(answered == std::set<bool>{false, true});
}

TEST_CASE("an exception that leaves a thread comes out of run") {
  Scheduler in_main(1), in_thread(2);
  CHECK_THROWS_AS(in_main.run([] { throw std::runtime_error("main"); }), std::runtime_error);
  CHECK_THROWS_AS(in_thread.run([] { Thread t("t", [] { throw std::logic_error("thread"); }); }),
                  std::logic_error);
}

TEST_CASE("outside a run nothing is scheduled") {
  CHECK_FALSE(Scheduler::active());
  Scheduler::yield();
  Scheduler scheduler(1);
  bool active = false;
  scheduler.run([&active] { active = Scheduler::active(); });
  CHECK(active);
  CHECK_FALSE(Scheduler::active());
}
