// SPDX-License-Identifier: GPL-2.0-or-later
// What nobody syncs is durable after the commit interval all the same, and an idle filesystem is
// left alone. In virtual time, under seeded schedules.
#include <catch2/catch.hpp>
#include <string>

#include "base/scheduler.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr uint64_t kIntervalNs = 5 * kNsPerSecond;
// The scheduler's clock moves with every event: what threads need to do their work.
constexpr uint64_t kWorkNs = kNsPerSecond / 2;

void sleep(Clock& clock, uint64_t ns) {
  Mutex mutex(LockRank::leaf, "sleep");
  CondVar never;
  const uint64_t until_ns = clock.monotonic_ns() + ns;
  // In small steps, so that others get to do what falls due on the way.
  while (clock.monotonic_ns() < until_ns) {
    MutexLock lock(mutex);
    (void)never.wait_until(mutex, clock, clock.monotonic_ns() + ns / 50);
  }
  // A schedule may let this thread run on and on: those whose time has come get their turns.
  for (int i = 0; i < 3000; ++i) Scheduler::yield();
}

const std::string kOld(9000, 'o');
const std::string kNew(9000, 'n');

struct Simulated {
  explicit Simulated(uint64_t seed) : scheduler(seed), clock(scheduler) {
    t.options.clock = &clock;
    t.options.commit_interval_ns = kIntervalNs;
    t.options.writeback_delay_ns = 500 * kNsPerMs;
  }
  // Power fails: what a mount on the durable image finds.
  void power_failure() { t.power_failure(CrashPolicy::drop_all, 1); }

  Scheduler scheduler;
  SimClock clock;
  TestFs t{Backing::memory_device, 8192};
};

constexpr uint64_t kSeeds = 40;

}  // namespace

TEST_CASE("after the interval names and data are durable without being asked for", "[fs][sim]") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Simulated s(seed);
    TestFs& t = s.t;
    // Also when the delay alone would be longer than the interval.
    if (seed % 2 == 0) t.options.writeback_delay_ns = 3600 * kNsPerSecond;
    s.scheduler.run([&] {
      t.mount();
      const Ino f = t.make_file(kRootIno, "f");
      t.write(f, kOld);
      sleep(s.clock, kIntervalNs + kWorkNs);
      t.write(f, kNew);
      t.make_directory(kRootIno, "d");
      sleep(s.clock, kIntervalNs + kWorkNs);
      s.power_failure();
      t.mount();
      CHECK(t.find(kRootIno, "d") != Ino(0));
      CHECK((t.read(t.find(kRootIno, "f")) == kNew));
      t.unmount();
    });
  }
}

// Nothing else puts a record into the journal meanwhile: it waits for its commit from when the data
// was written back on.
TEST_CASE("the delay of writeback is part of the interval, not added to it", "[fs][sim]") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Simulated s(seed);
    TestFs& t = s.t;
    t.options.writeback_delay_ns = kIntervalNs / 2;
    s.scheduler.run([&] {
      t.mount();
      const Ino f = t.make_file(kRootIno, "f");
      t.write(f, kOld);
      REQUIRE(name_of(t->sync_all()) == "ok");
      sleep(s.clock, 2 * kIntervalNs);
      t.write(f, kNew);
      sleep(s.clock, kIntervalNs + kWorkNs);
      s.power_failure();
      t.mount();
      CHECK((t.read(t.find(kRootIno, "f")) == kNew));
      t.unmount();
    });
  }
}

TEST_CASE("times that only memory has are durable after the interval too", "[fs][sim]") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Simulated s(seed);
    TestFs& t = s.t;
    t.options.atime = AtimePolicy::strictatime;
    s.scheduler.run([&] {
      t.mount();
      const Ino f = t.make_file(kRootIno, "f");
      t.write(f, kOld);
      REQUIRE(name_of(t->sync_all()) == "ok");
      sleep(s.clock, kNsPerSecond + seed * 100 * kNsPerMs);
      CHECK((t.read(f) == kOld));
      const Timestamp read_at = t.attributes(f).access_time;
      sleep(s.clock, kIntervalNs + kWorkNs);
      s.power_failure();
      t.mount();
      CHECK((t.attributes(t.find(kRootIno, "f")).access_time == read_at));
      t.unmount();
    });
  }
}

TEST_CASE("an idle filesystem asks nothing of the device", "[fs][sim]") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CAPTURE(seed);
    Simulated s(seed);
    TestFs& t = s.t;
    s.scheduler.run([&] {
      t.mount();
      const Ino f = t.make_file(kRootIno, "f");
      const HandleId handle = *t->open_file(f, {.read = true, .write = true});
      t.write(f, kNew, 0, handle);
      sleep(s.clock, 3 * kIntervalNs);
      const DeviceCounters& counters = t.device->counters();
      const uint64_t before = counters.reads + counters.writes + counters.flushes;
      sleep(s.clock, 3600 * kNsPerSecond);
      CHECK(counters.reads + counters.writes + counters.flushes == before);
      t->release(handle);
      t.unmount();
    });
  }
}

TEST_CASE("the interval is not cut short for names alone", "[fs][sim]") {
  Simulated s(3);
  TestFs& t = s.t;
  s.scheduler.run([&] {
    t.mount();
    const uint64_t before = t.device->counters().writes;
    const uint64_t start_ns = s.clock.monotonic_ns();
    t.make_file(kRootIno, "f");
    while (t.device->counters().writes == before) sleep(s.clock, 100 * kNsPerMs);
    CHECK(s.clock.monotonic_ns() - start_ns >= kIntervalNs / 2);
    t.unmount();
  });
}
