// SPDX-License-Identifier: GPL-2.0-or-later
// Pages hold still while they are written: what a rewrite does under each policy (P1), and that
// the detector detects when they do not.
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr uint64_t kManyBytes = 1 << 20;

// A page in flight that has no second version yet.
RewriteFacts in_flight(bool whole) {
  return {.whole = whole, .sealed = true, .in_flight = true, .shadow_limit_bytes = kManyBytes};
}

// A file of two pages of ones, on its way to a device that does not answer.
struct RewriteInFlight {
  explicit RewriteInFlight(const DataSetup& setup) : fixture(setup), file(fixture.make_file()) {
    fixture.device.close(fixture.data_blocks());
    put_at(file, 0, expected);
    wait_until([&] { return fixture.device.held() == 1; });
  }
  void write(uint64_t offset, size_t length, int value) {
    put_at(file, offset, filled(length, value));
    note(offset, length, value);
  }
  void note(uint64_t offset, size_t length, int value) {
    std::fill_n(expected.begin() + static_cast<ptrdiff_t>(offset), length,
                static_cast<std::byte>(value));
  }
  const DataCounters& counters() { return fixture.context->counters(); }
  void land_and_check() {
    fixture.device.open();
    CHECK(what(file.write_back()) == "ok");
    CHECK(contents(file, 0, 10000) == expected);
    fixture.reopen();
    CHECK(contents(*fixture.files[0], 0, 10000) == expected);
    CHECK(fixture.verifying.verifying_counters().mismatches == 0);
    CHECK(fixture.check_items() == "");
  }

  DataFixture fixture;
  FileData& file;
  std::vector<std::byte> expected = filled(2 * kBlockSize, 1);
};

}  // namespace

TEST_CASE("who has the page to himself changes it in place under any policy", "[data][stable]") {
  for (const StablePolicy policy :
       {StablePolicy::automatic, StablePolicy::wait, StablePolicy::copy, StablePolicy::off}) {
    CHECK(decide_rewrite(policy, {}) == RewriteAction::in_place);
    CHECK(decide_rewrite(policy, {.whole = true}) == RewriteAction::swap);
    CHECK(decide_rewrite(policy, {.whole = true, .sealed = true}) == RewriteAction::swap);
    // A neighbour in the same buffer is under I/O.
    CHECK(decide_rewrite(policy, {.sealed = true}) == RewriteAction::copy);
  }
}

TEST_CASE("a page in flight is waited for, swapped or copied by policy", "[data][stable]") {
  CHECK(decide_rewrite(StablePolicy::wait, in_flight(true)) == RewriteAction::wait);
  CHECK(decide_rewrite(StablePolicy::wait, in_flight(false)) == RewriteAction::wait);
  CHECK(decide_rewrite(StablePolicy::copy, in_flight(true)) == RewriteAction::swap);
  CHECK(decide_rewrite(StablePolicy::copy, in_flight(false)) == RewriteAction::copy);
  CHECK(decide_rewrite(StablePolicy::automatic, in_flight(true)) == RewriteAction::swap);
  CHECK(decide_rewrite(StablePolicy::off, in_flight(true)) == RewriteAction::overwrite);
  CHECK(decide_rewrite(StablePolicy::off, in_flight(false)) == RewriteAction::overwrite);
}

TEST_CASE("auto takes the cheaper one, and copies get dearer as memory runs out",
          "[data][stable]") {
  RewriteFacts facts = in_flight(false);
  facts.landing_ns = 10'000;
  facts.copy_ns = 1'000;
  CHECK(decide_rewrite(StablePolicy::automatic, facts) == RewriteAction::copy);
  facts.landing_ns = 900;
  CHECK(decide_rewrite(StablePolicy::automatic, facts) == RewriteAction::wait);
  facts.landing_ns = 10'000;
  facts.shadow_bytes = kManyBytes / 16 * 15;  // sixteen times the price
  CHECK(decide_rewrite(StablePolicy::automatic, facts) == RewriteAction::wait);
  CHECK(decide_rewrite(StablePolicy::copy, facts) == RewriteAction::copy);
}

TEST_CASE("without memory for a second version everybody waits", "[data][stable]") {
  for (const StablePolicy policy : {StablePolicy::automatic, StablePolicy::copy}) {
    for (const bool whole : {true, false}) {
      RewriteFacts facts = in_flight(whole);
      facts.shadow_bytes = kManyBytes - kBlockSize + 1;
      CHECK(decide_rewrite(policy, facts) == RewriteAction::wait);
      facts.shadow_bytes = kManyBytes - kBlockSize;
      facts.landing_ns = ~0ull;
      CHECK(decide_rewrite(policy, facts) != RewriteAction::wait);
      // It is there already.
      facts.shadow_bytes = kManyBytes;
      facts.shadowed = true;
      facts.sealed = false;
      CHECK(decide_rewrite(policy, facts) ==
            (whole ? RewriteAction::swap : RewriteAction::in_place));
    }
  }
}

TEST_CASE("the time to landing is what is left of the usual flight", "[data][stable]") {
  StableControl control(StablePolicy::automatic, kManyBytes);
  control.note_flight(1600);
  CHECK(control.landing_ns(600) == 1000);
  CHECK(control.landing_ns(2000) == 400);  // late
  control.note_flight(3200);
  CHECK(control.flight_ns() == 1700);
  CHECK(parse_stable_policy("auto") == StablePolicy::automatic);
  CHECK(parse_stable_policy("off") == StablePolicy::off);
  CHECK_FALSE(parse_stable_policy("").has_value());
  CHECK(std::string(to_string(StablePolicy::copy)) == "copy");
}

TEST_CASE("policy copy: a rewritten page has two versions, a third write changes the newer one",
          "[data][stable]") {
  RewriteInFlight f(at_once(StablePolicy::copy));
  f.write(10, 5, 2);
  f.write(20, 5, 3);
  f.write(kBlockSize, kBlockSize, 4);
  f.write(kBlockSize + 7, 1, 5);
  CHECK(f.counters().stable_copies == 1);
  CHECK(f.counters().stable_swaps == 1);
  CHECK(f.counters().stable_waits == 0);
  CHECK(f.fixture.context->gauges().shadow_bytes == 2 * kBlockSize);
  CHECK(contents(f.file, 0, 10000) == f.expected);
  CHECK(f.fixture.device.held() == 1);  // never two versions of a page in flight
  f.land_and_check();
}

TEST_CASE("policy wait: a rewrite returns when the page has landed", "[data][stable]") {
  const bool whole = GENERATE(true, false);
  const bool keep_clean = GENERATE(true, false);
  DataSetup setup = at_once(StablePolicy::wait);
  setup.keep_clean = keep_clean;
  RewriteInFlight f(setup);
  std::atomic<bool> done{false};
  const uint64_t offset = whole ? 0 : 100;
  const size_t length = whole ? kBlockSize : 10;
  Thread writer("writer", [&] {
    put_at(f.file, offset, filled(length, 2));
    done = true;
  });
  wait_until([&] { return f.counters().stable_waits == 1; });
  // Who reads behind it waits as well, elsewhere nobody does.
  std::vector<std::byte> elsewhere(kBlockSize);
  CHECK(f.file.read(kBlockSize, elsewhere).ok());
  CHECK_FALSE(done);
  const uint64_t read_before = f.fixture.memory.counters().reads;
  f.fixture.device.open();
  writer.join();
  // The page that was waited for is not read back from the device.
  CHECK(f.fixture.memory.counters().reads == read_before);
  f.note(offset, length, 2);
  CHECK(f.counters().stable_waits == 1);
  CHECK(f.counters().stable_copies + f.counters().stable_swaps == 0);
  CHECK(f.fixture.context->stable().waits_ns().total_ns() > 0);
  f.land_and_check();
}

TEST_CASE("shadow memory is bounded: the write that finds none waits", "[data][stable]") {
  DataSetup setup = at_once(StablePolicy::copy);
  setup.shadow_limit_bytes = kBlockSize;
  RewriteInFlight f(setup);
  f.write(10, 5, 2);
  Thread writer("writer", [&] { put_at(f.file, kBlockSize + 10, filled(5, 3)); });
  wait_until([&] { return f.counters().stable_waits == 1; });
  CHECK(f.fixture.context->gauges().shadow_bytes == kBlockSize);
  f.fixture.device.open();
  writer.join();
  f.note(kBlockSize + 10, 5, 3);
  f.land_and_check();
}

TEST_CASE("the policy can be changed under way", "[data][stable]") {
  RewriteInFlight f(at_once(StablePolicy::copy));
  f.write(10, 5, 2);
  f.fixture.context->stable().set_policy(StablePolicy::wait);
  Thread writer("writer", [&] { put_at(f.file, 30, filled(5, 3)); });
  wait_until([&] { return f.counters().stable_waits == 1; });
  f.fixture.device.open();
  writer.join();
  f.note(30, 5, 3);
  f.land_and_check();
}

TEST_CASE("a wait ends with the mount", "[data][stable]") {
  RewriteInFlight f(at_once(StablePolicy::wait));
  std::string result;
  Thread writer("writer",
                [&] { result = what(f.file.write(0, payload_of(filled(10, 2)), kPutTime)); });
  wait_until([&] { return f.counters().stable_waits == 1; });
  f.fixture.context->abandon();
  writer.join();
  CHECK(result != "ok");
  f.fixture.device.open();
}

TEST_CASE("negative control: a page rewritten in flight is caught, and the write named",
          "[data][stable]") {
  const bool whole = GENERATE(true, false);
  RewriteInFlight f(at_once(StablePolicy::off));
  put_at(f.file, whole ? 0 : 100, filled(whole ? kBlockSize : 10, 2));
  CHECK(f.counters().stable_overwrites == 1);
  CHECK(f.counters().stable_swaps + f.counters().stable_copies + f.counters().stable_waits == 0);
  f.fixture.device.open();
  (void)f.file.write_back();
  CHECK(f.fixture.verifying.verifying_counters().mismatches > 0);
  const std::string said = f.fixture.logger.last;
  INFO(said);
  CHECK(said.find(whole ? "write of 4096 bytes at offset 0" : "write of 10 bytes at offset 100") !=
        std::string::npos);
}
