// SPDX-License-Identifier: GPL-2.0-or-later
// Fails every device operation of a mixed workload once, and from it on, in every way a device can
// fail, under every errors= policy. After each: nothing hangs (the scheduler knows), nothing that
// was acknowledged is missing, what was not is a prefix, fsck is clean.
#include <catch2/catch.hpp>
#include <cstdio>
#include <functional>

#include "base/scheduler.h"
#include "fs_fault_run.h"
#include "store/store.h"

using namespace stablefs;

namespace {

constexpr uint64_t kDeviceBlocks = 4096;
constexpr ErrorPolicy kPolicies[] = {ErrorPolicy::remount_read_only, ErrorPolicy::go_on,
                                     ErrorPolicy::abort};

MemoryImage formatted() {
  MemoryDevice device(kDeviceBlocks);
  FormatOptions format;
  format.uuid = {1};
  format.epoch = {2};
  REQUIRE(format_device(device, format).ok());
  REQUIRE(device.flush().ok());
  return device.image();
}

struct Fault {
  FaultKind kind;
  DeviceOp op;
  const char* name;
};
constexpr Fault kFaults[] = {
    {FaultKind::fail, DeviceOp::write, "write fails"},
    {FaultKind::fail_after, DeviceOp::write, "write is done and fails"},
    {FaultKind::short_transfer, DeviceOp::write, "short write"},
    {FaultKind::fail, DeviceOp::flush, "flush fails"},
    {FaultKind::fail, DeviceOp::read, "read fails"},
    {FaultKind::short_transfer, DeviceOp::read, "short read"},
};

struct Point {
  Fault fault;
  ErrorPolicy policy;
  uint64_t number;
  bool persistent;
  bool asynchronous = false;  // the device completes requests in any order, later
};

struct Outcome {
  uint64_t faults = 0;
  std::string wrong;
  HealthState state = HealthState::healthy;
  bool closed_well = false;
};

FaultPlan plan_of(const Point& point) {
  FaultRule rule;
  rule.kind = point.fault.kind;
  rule.op = point.fault.op;
  rule.first = point.number;
  rule.times = point.persistent ? UINT64_MAX : 1;
  return {.seed = point.number, .rules = {rule}};
}

// In a schedule of its own, so that a hang is seen as what it is. What was wrong, or "".
std::string run_scheduled(const FaultSetup& setup, const std::function<void(FaultRun&)>& body) {
  Scheduler scheduler(
      SchedulerOptions{.seed = setup.seed, .max_events = 2'000'000, .abort_on_failure = false});
  SimClock clock(scheduler);
  NullLogger logger;
  std::string wrong;
  const RunOutcome ended = scheduler.run([&] {
    // Not destroyed when it hangs: its threads sleep in it for ever.
    auto run = std::make_unique<FaultRun>(setup, clock, logger);
    body(*run);
    wrong = run->wrong();
  });
  return ended == RunOutcome::completed ? wrong : "hangs: " + scheduler.report();
}

Outcome run_point(const MemoryImage& image, const Point& point) {
  Outcome outcome;
  const FaultSetup setup{image, point.policy, point.number, point.asynchronous};
  outcome.wrong = run_scheduled(setup, [&](FaultRun& run) {
    if (!run.mount().ok()) return run.complain("does not mount at first");
    run.device().set_plan(plan_of(point));
    run.run_workload();
    run.finish();
    outcome.faults = run.device().faults();
    outcome.state = run.state();
    outcome.closed_well = run.closed_well();
    run.judge(run.image());
    run.judge(run.durable_image());
  });
  return outcome;
}

const char* policy_name(ErrorPolicy policy) {
  constexpr const char* kNames[] = {"remount-ro", "continue", "abort"};
  return kNames[static_cast<size_t>(policy)];
}

// Under no policy does a failed flush, and under none but `continue` a failed write, go unnoticed.
std::string expected_of(const Point& point, const Outcome& outcome) {
  if (outcome.faults == 0) return "";
  if (point.fault.op == DeviceOp::read) return "";
  if (point.fault.kind == FaultKind::short_transfer) return "";  // what is missing is sent again
  if (point.fault.op == DeviceOp::flush || point.policy != ErrorPolicy::go_on) {
    if (health_allows(Activity::change, outcome.state)) return "nothing has latched\n";
    if (outcome.closed_well) return "unmounted well\n";
  }
  const bool aborts = point.policy == ErrorPolicy::abort;
  if (aborts && outcome.state != HealthState::aborted) return "not aborted\n";
  return "";
}

class Sweep {
 public:
  explicit Sweep(const MemoryImage& image) : image_(image) {}

  // The fault at every operation there is.
  void run(Point point) {
    while (true) {
      ++point.number;
      const Outcome outcome = run_point(image_, point);
      const std::string wrong = outcome.wrong + expected_of(point, outcome);
      if (wrong != "") {
        FAIL_CHECK(point.fault.name << " number " << point.number
                                    << (point.persistent ? " and on" : "")
                                    << (point.asynchronous ? ", asynchronous" : "")
                                    << ", errors=" << policy_name(point.policy) << ":\n"
                                    << wrong);
      }
      if (outcome.faults == 0) return;
      ++points_;
      ++states_[to_string(outcome.state)];
    }
  }
  void print() const {
    std::printf("fault sweep: %llu fault points", static_cast<unsigned long long>(points_));
    for (const auto& [state, count] : states_) {
      std::printf(", %s %llu", state.c_str(), static_cast<unsigned long long>(count));
    }
    std::printf("\n");
  }
  uint64_t points() const { return points_; }

 private:
  const MemoryImage& image_;
  uint64_t points_ = 0;
  std::map<std::string, uint64_t> states_;
};

}  // namespace

TEST_CASE("no failed device operation is followed by a success that is not true",
          "[fs][faults][long]") {
  const MemoryImage image = formatted();
  Sweep sweep(image);
  for (const Fault& fault : kFaults) {
    for (const ErrorPolicy policy : kPolicies) {
      for (const bool persistent : {false, true}) {
        for (const bool asynchronous : {false, true}) {
          sweep.run({fault, policy, 0, persistent, asynchronous});
        }
      }
    }
  }
  sweep.print();
  CHECK(sweep.points() > 1000);
}

TEST_CASE("a device that fails during the mount refuses it or serves whole files", "[fs][faults]") {
  // As a crash left it: with a journal to replay.
  MemoryImage crashed = formatted();
  const std::string first = run_scheduled({crashed, ErrorPolicy::abort, 1}, [&](FaultRun& run) {
    REQUIRE(run.mount().ok());
    run.run_workload();
    run.sync_all();
    crashed = run.image();
    run.stop();
  });
  REQUIRE(first == "");
  uint64_t points = 0, refused = 0;
  for (const Fault& fault : kFaults) {
    for (const bool persistent : {false, true}) {
      bool struck = true;
      for (uint64_t number = 1; struck; ++number) {
        const Point point{fault, ErrorPolicy::remount_read_only, number, persistent};
        const std::string wrong =
            run_scheduled({crashed, point.policy, number}, [&](FaultRun& run) {
              run.device().set_plan(plan_of(point));
              const Status mounted = run.mount();
              struck = run.device().faults() != 0;
              refused += !mounted.ok();
              if (mounted.ok()) run.finish();
              run.expect_healthy_mount(run.image());
              run.expect_healthy_mount(run.durable_image());
            });
        points += struck;
        if (wrong != "") FAIL_CHECK(fault.name << " number " << number << ":\n" << wrong);
      }
    }
  }
  std::printf("fault sweep of the mount: %llu fault points, %llu refused\n",
              static_cast<unsigned long long>(points), static_cast<unsigned long long>(refused));
  CHECK(points > 50);
}

TEST_CASE("running out of space at any moment is no error of the filesystem",
          "[fs][faults][long]") {
  const MemoryImage image = formatted();
  uint64_t refused = 0, runs = 0;
  // How many are refused depends on the order of threads: by chance 37 to 73 of a round.
  constexpr uint64_t kRounds = 2;
  const auto sweep = [&](uint64_t free_blocks, uint64_t round) {
    const std::string wrong = run_scheduled(
        {image, ErrorPolicy::abort, round * 1000 + free_blocks + 1}, [&](FaultRun& run) {
          REQUIRE(run.mount().ok());
          run.fill_up_to(free_blocks);
          const uint64_t before = run.refused();
          run.run_workload();
          refused += run.refused() - before;
          run.finish();
          if (run.state() != HealthState::healthy) run.complain("an error has latched");
          if (!run.closed_well()) run.complain("does not unmount");
          run.judge(run.image());
          run.judge(run.durable_image());
        });
    ++runs;
    if (wrong != "") FAIL_CHECK("with " << free_blocks << " free blocks:\n" << wrong);
  };
  for (uint64_t round = 0; round < kRounds; ++round) {
    for (uint64_t free_blocks = 0; free_blocks < 80; free_blocks += free_blocks < 40 ? 1 : 5) {
      sweep(free_blocks, round);
    }
  }
  std::printf("space sweep: %llu runs, %llu operations refused\n",
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(refused));
  CHECK(refused > 40 * kRounds);
}
