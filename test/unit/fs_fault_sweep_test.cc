// SPDX-License-Identifier: GPL-2.0-or-later
// Fails every device operation of a mixed workload once, and from it on, in every way a device can
// fail, under every errors= policy. After each: nothing hangs (the scheduler knows), nothing that
// was acknowledged is missing, what was not is a prefix, fsck is clean.
#include <catch2/catch.hpp>
#include <cstdio>

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

// In a schedule of its own, so that a hang is seen as what it is.
Outcome run_point(const MemoryImage& image, const Point& point) {
  Outcome outcome;
  Scheduler scheduler(
      SchedulerOptions{.seed = point.number, .max_events = 2'000'000, .abort_on_failure = false});
  SimClock clock(scheduler);
  NullLogger logger;
  auto run = std::make_unique<FaultRun>(image, point.policy, clock, logger);
  const RunOutcome ended = scheduler.run([&] {
    if (!run->mount().ok()) {
      outcome.wrong = "does not mount at first\n";
      return;
    }
    run->device().set_plan(plan_of(point));
    run->run_workload();
    run->finish();
    outcome.faults = run->device().faults();
    run->judge(run->image());
    run->judge(run->durable_image());
  });
  if (ended != RunOutcome::completed) {
    (void)run.release();  // its threads sleep in it
    outcome.wrong = "hangs: " + scheduler.report();
    return outcome;
  }
  outcome.wrong += run->wrong();
  outcome.state = run->state();
  outcome.closed_well = run->closed_well();
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

}  // namespace

TEST_CASE("no failed device operation is followed by a success that is not true", "[fs][faults]") {
  const MemoryImage image = formatted();
  uint64_t points = 0;
  std::map<std::string, uint64_t> states;
  for (const Fault& fault : kFaults) {
    for (const ErrorPolicy policy : kPolicies) {
      for (const bool persistent : {false, true}) {
        for (uint64_t number = 1;; ++number) {
          const Point point{fault, policy, number, persistent};
          const Outcome outcome = run_point(image, point);
          const std::string wrong = outcome.wrong + expected_of(point, outcome);
          if (wrong != "") {
            FAIL_CHECK(fault.name << " number " << number << (persistent ? " and on" : "")
                                  << ", errors=" << policy_name(policy) << ":\n"
                                  << wrong);
          }
          if (outcome.faults == 0) break;
          ++points;
          ++states[to_string(outcome.state)];
        }
      }
    }
  }
  std::printf("fault sweep: %llu fault points", static_cast<unsigned long long>(points));
  for (const auto& [state, count] : states) {
    std::printf(", %s %llu", state.c_str(), static_cast<unsigned long long>(count));
  }
  std::printf("\n");
  CHECK(points > 500);
}
