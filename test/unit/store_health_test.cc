// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "store/health.h"

using namespace stablefs;

namespace {

constexpr ErrorPolicy kPolicies[] = {ErrorPolicy::remount_read_only, ErrorPolicy::go_on,
                                     ErrorPolicy::abort};
constexpr HealthEvent kEvents[] = {HealthEvent::data_lost, HealthEvent::commit_failed,
                                   HealthEvent::stop};
constexpr Activity kAll[] = {Activity::serve, Activity::change, Activity::commit};

struct Lines final : Logger {
  void write(LogLevel, std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

}  // namespace

TEST_CASE("no event of health allows again what was not allowed before", "[store]") {
  for (const ErrorPolicy policy : kPolicies) {
    for (const HealthEvent event : kEvents) {
      for (size_t i = 0; i < kHealthStates; ++i) {
        const auto from = static_cast<HealthState>(i);
        const HealthState to = next_health_state(policy, event, from);
        for (const Activity activity : kAll) {
          CHECK((health_allows(activity, from) || !health_allows(activity, to)));
        }
        // Once it has happened, the same again changes nothing.
        CHECK(next_health_state(policy, event, to) == to);
      }
    }
  }
}

TEST_CASE("after a failed commit nothing is committed, under any policy", "[store]") {
  for (const ErrorPolicy policy : kPolicies) {
    for (size_t i = 0; i < kHealthStates; ++i) {
      const auto to =
          next_health_state(policy, HealthEvent::commit_failed, static_cast<HealthState>(i));
      CHECK_FALSE(health_allows(Activity::commit, to));
      CHECK_FALSE(health_allows(Activity::change, to));
    }
  }
}

TEST_CASE("health tells each change of state once, with its cause", "[store]") {
  ManualClock clock;
  Lines log;
  int aborted = 0;
  Health health({.policy = ErrorPolicy::abort, .clock = &clock, .logger = &log, .on_abort = [&] {
                   ++aborted;
                 }});
  CHECK(health.check(Activity::commit).ok());
  CHECK_FALSE(health.cause().has_value());
  health.report(HealthEvent::data_lost, Error(ErrorCode::device_write, "first"));
  health.report(HealthEvent::data_lost, Error(ErrorCode::device_write, "second"));
  health.report(HealthEvent::commit_failed, Error(ErrorCode::device_flush, "third"));
  CHECK(aborted == 1);
  REQUIRE(log.lines.size() == 1);
  CHECK(log.lines[0].find("first") != std::string::npos);
  CHECK(health.losses() == 2);
  CHECK(health.state() == HealthState::aborted);
  CHECK(health.check(Activity::serve).error().code() == ErrorCode::shut_down);
  health.stop();
  REQUIRE(health.cause().has_value());
  CHECK(health.cause()->error.detail() == "first");
  CHECK(health.cause()->when == clock.wall_time());
}

TEST_CASE("a change is refused as to a read-only filesystem while reads go on", "[store]") {
  ManualClock clock;
  NullLogger log;
  Health health({.policy = ErrorPolicy::remount_read_only, .clock = &clock, .logger = &log});
  health.report(HealthEvent::data_lost, ErrorCode::device_write);
  CHECK(health.check(Activity::change).error().code() == ErrorCode::read_only_after_error);
  CHECK(health.check(Activity::commit).ok());
  health.report(HealthEvent::commit_failed, ErrorCode::device_flush);
  CHECK(health.check(Activity::change).error().code() == ErrorCode::read_only_after_error);
  CHECK(health.check(Activity::commit).error().code() == ErrorCode::shut_down);
  CHECK(health.check(Activity::serve).ok());
  CHECK(health.cause()->error.code() == ErrorCode::device_flush);
}
