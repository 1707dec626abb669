// SPDX-License-Identifier: GPL-2.0-or-later
// Zeroing ranges: edges beside dirty pages and pages in flight, what leaves the cache and what is
// freed, the size on disk, failures, chains, a full device.
#include <algorithm>

#include "base/scheduler.h"
#include "data/extent_map.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow = kPutTime;
constexpr Timestamp kLater{3000, 8};

void zero_out(std::vector<std::byte>& bytes, uint64_t from, uint64_t end) {
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(from),
            bytes.begin() + static_cast<ptrdiff_t>(end), std::byte{0});
}

std::string holes_of(DataFixture& f, uint64_t end_block) {
  std::string text;
  const auto runs = f.files[0]->mapped_runs(0, end_block);
  REQUIRE(what(runs) == "ok");
  for (const Run& run : *runs) {
    text.append(run.length_blocks, ".ux"[static_cast<size_t>(run.kind)]);
  }
  return text;
}

}  // namespace

TEST_CASE("a punched range: whole blocks are freed, of others just the bytes are zero", "[data]") {
  const bool committed = GENERATE(true, false);
  const bool keep_clean = GENERATE(true, false);
  INFO("committed " << committed);
  DataSetup setup;
  setup.keep_clean = keep_clean;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& file = f.make_file();
  put(file, 0, blocks(10, 1));
  if (committed) REQUIRE(what(file.write_back()) == "ok");
  auto expected = blocks(10, 1);
  REQUIRE(what(file.punch(kBlockSize + 100, 3 * kBlockSize, kLater)) == "ok");
  zero_out(expected, kBlockSize + 100, 4 * kBlockSize + 100);
  CHECK(contents(file, 0, 50'000) == expected);
  CHECK(f.attributes().modify_time == kLater);
  CHECK(f.attributes().change_time == kLater);
  CHECK(f.attributes().size_bytes == 10 * kBlockSize);
  CHECK(file.promised_blocks() == (committed ? 2 : 8));
  CHECK(f.attributes().block_count == (committed ? 8 : 0));
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(holes_of(f, 10) == "xx..xxxxxx");
  CHECK(f.attributes().block_count == 8);
  CHECK(f.attributes().disk_size_bytes == 10 * kBlockSize);
  CHECK(what(file.seek(0, true)) == "ok");
  CHECK(file.seek(0, true).value() == 2 * kBlockSize);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(contents(*f.files[0], 0, 50'000) == expected);
  REQUIRE(what(f.files[0]->remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("punching a hole, or behind the end of the file, takes nothing", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  REQUIRE(what(file.truncate(10 * kBlockSize, kNow)) == "ok");
  REQUIRE(what(file.punch(100, 5 * kBlockSize, kNow)) == "ok");
  REQUIRE(what(file.punch(9 * kBlockSize + 1, 1 << 20, kNow)) == "ok");
  CHECK(file.promised_blocks() == 0);
  CHECK(f.attributes().block_count == 0);
  CHECK(f.attributes().size_bytes == 10 * kBlockSize);
  CHECK_FALSE(file.has_dirty_pages());
  CHECK(file.punch(kMaxFileBytes, 1, kNow).error().code() == ErrorCode::file_too_large);
  CHECK(file.zero(1, ~0ull, true, kNow).error().code() == ErrorCode::file_too_large);
}

TEST_CASE("zeroing beyond the end makes the file longer, with zeros only", "[data]") {
  const bool committed = GENERATE(true, false);
  const bool hides_old_bytes = GENERATE(true, false);
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(3, 1));
  if (committed) REQUIRE(what(file.write_back()) == "ok");
  if (hides_old_bytes) REQUIRE(what(file.truncate(2 * kBlockSize + 50, kNow)) == "ok");
  REQUIRE(what(file.zero(kBlockSize + 10, 100'000, false, kNow)) == "ok");
  auto expected = blocks(3, 1);
  expected.resize(kBlockSize + 10);
  expected.resize(kBlockSize + 10 + 100'000);
  CHECK(f.attributes().size_bytes == expected.size());
  CHECK(contents(file, 0, 200'000) == expected);
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == expected.size());
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(contents(*f.files[0], 0, 200'000) == expected);
  CHECK(holes_of(f, 4) == "xxuu");
  CHECK(f.attributes().block_count == blocks_for_bytes(expected.size()));
}

// The last block is in use up to the end of the file only; what is behind must not come back.
TEST_CASE("the block of the end of file goes as a whole", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(2, 1));
  REQUIRE(what(file.write_back()) == "ok");
  REQUIRE(what(file.truncate(kBlockSize + 100, kNow)) == "ok");
  REQUIRE(what(file.punch(kBlockSize, 100, kNow)) == "ok");
  CHECK(f.attributes().block_count == 1);
  CHECK(f.attributes().size_bytes == kBlockSize + 100);
  REQUIRE(what(file.truncate(2 * kBlockSize, kNow)) == "ok");
  auto expected = blocks(2, 1);
  zero_out(expected, kBlockSize, 2 * kBlockSize);
  CHECK(contents(file, 0, 10'000) == expected);
  CHECK(f.check_items() == "");
}

TEST_CASE("edges beside pages in flight: the old versions land, then the new ones", "[data]") {
  const StablePolicy policy =
      GENERATE(StablePolicy::copy, StablePolicy::wait, StablePolicy::automatic);
  DataSetup setup = at_once();
  setup.stable = policy;
  DataFixture f(setup);
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(2, 1));
  wait_until([&] { return f.device.held() == 1; });
  std::atomic<bool> done{false};
  Thread puncher("puncher", [&] {
    FS_ASSERT(file.punch(kBlockSize - 50, 100, kNow).ok());
    done = true;
  });
  if (policy == StablePolicy::copy) {
    // Nothing of it is whole: nobody waits for the device.
    wait_until([&] { return done.load(); });
    CHECK(f.context->counters().stable_copies == 2);
  }
  f.device.open();
  puncher.join();
  auto expected = blocks(2, 1);
  zero_out(expected, kBlockSize - 50, kBlockSize + 50);
  CHECK(contents(file, 0, 10'000) == expected);
  REQUIRE(what(file.write_back()) == "ok");
  f.reopen();
  CHECK(contents(*f.files[0], 0, 10'000) == expected);
  CHECK(f.verifying.verifying_counters().mismatches == 0);
}

// The trace that began it: both share one block, which the neighbour keeps dirty or in flight.
TEST_CASE("zeroing right behind a write that is not on the device yet", "[data]") {
  const bool in_flight = GENERATE(false, true);
  const bool keep_size = GENERATE(false, true);
  constexpr uint64_t kWritten = 0x7ffff000, kZeroed = 0x7ffffe00, kEnd = 0x801ff000;
  DataFixture f(in_flight ? at_once() : DataSetup());
  FileData& file = f.make_file();
  const auto written = filled(kZeroed - kWritten, 1);
  f.device.close(f.data_blocks());
  REQUIRE(file.write(kWritten, payload_of(written), kNow).ok());
  if (in_flight) wait_until([&] { return f.device.held() == 1; });
  Thread zero("zero", [&] { FS_ASSERT(file.zero(kZeroed, kEnd - kZeroed, keep_size, kNow).ok()); });
  f.device.open();
  zero.join();
  auto expected = written;
  if (!keep_size) expected.resize(kEnd - kWritten);
  CHECK(contents(file, kWritten, 3 << 20) == expected);
  REQUIRE(what(file.write_back()) == "ok");
  f.reopen();
  CHECK(contents(*f.files[0], kWritten, 3 << 20) == expected);
  CHECK(f.attributes().block_count == (kEnd - kWritten) / kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("whole blocks in flight are waited for, then freed", "[data]") {
  DataFixture f(at_once());
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(6, 1));
  wait_until([&] { return f.device.held() == 1; });
  put(file, 2, blocks(1, 2));  // a newer version of one
  std::atomic<bool> done{false};
  Thread puncher("puncher", [&] {
    FS_ASSERT(file.punch(kBlockSize, 3 * kBlockSize, kNow).ok());
    done = true;
  });
  CHECK(contents(file, 5 * kBlockSize, 5000) == blocks(1, 1));
  CHECK_FALSE(done);
  f.device.open();
  puncher.join();
  auto expected = blocks(6, 1);
  zero_out(expected, kBlockSize, 4 * kBlockSize);
  CHECK(contents(file, 0, 50'000) == expected);
  CHECK(f.attributes().block_count == 3);
  CHECK(file.promised_blocks() == 0);
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 6 * kBlockSize);
  CHECK(f.check_items() == "");
  REQUIRE(what(file.remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

// Blocks that arrived wait for those below them; once these are zero there is nothing to wait for.
TEST_CASE("what is held back by a dirty block goes on when that is punched away", "[data]") {
  const bool in_range = GENERATE(false, true);
  DataFixture f;
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 4, blocks(2, 2));
  Thread syncer("syncer", [&] { FS_ASSERT(file.write_back().ok()); });
  wait_until([&] { return f.device.held() == 1; });
  put(file, 1, blocks(1, 1));  // dirty, below what is in flight
  const uint64_t end = in_range ? 5 * kBlockSize : 2 * kBlockSize;
  std::atomic<bool> punched{false};
  Thread puncher("puncher", [&] {
    FS_ASSERT(file.punch(kBlockSize, end - kBlockSize, kNow).ok());
    punched = true;
  });
  if (!in_range) wait_until([&] { return punched.load(); });
  f.device.open();
  puncher.join();
  syncer.join();
  auto expected = blocks(6, 0);
  std::fill(expected.begin() + static_cast<ptrdiff_t>(in_range ? 5 : 4) * kBlockSize,
            expected.end(), std::byte{2});
  CHECK(contents(file, 0, 50'000) == expected);
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 6 * kBlockSize);
  CHECK(holes_of(f, 6) == (in_range ? ".....x" : "....xx"));
  CHECK(f.check_items() == "");
}

// Nobody is waiting for it, who would look again.
TEST_CASE("what is held back goes on also without a waiter", "[data][sim]") {
  Scheduler scheduler(1);
  uint64_t disk_size = 0;
  size_t held = 0;
  scheduler.run([&] {
    SimClock clock(scheduler);
    Mutex mutex{LockRank::leaf, "sleep"};
    CondVar never;
    const auto sleep = [&](uint64_t milliseconds) {
      MutexLock lock(mutex);
      (void)never.wait_until(mutex, clock, clock.monotonic_ns() + milliseconds * kNsPerMs);
    };
    DataSetup setup;
    setup.asynchronous = true;
    setup.writeback_delay_ns = 500 * kNsPerMs;
    DataFixture f(setup, &clock);
    FileData& file = f.make_file();
    f.device.close(f.data_blocks());
    FS_ASSERT(file.write(4 * kBlockSize, payload_of(blocks(1, 2)), kNow).ok());
    sleep(600);
    held = f.device.held();
    FS_ASSERT(file.write(kBlockSize, payload_of(blocks(1, 1)), kNow).ok());
    f.device.open();
    sleep(100);  // landed, and held back by the dirty block
    FS_ASSERT(file.punch(kBlockSize, kBlockSize, kNow).ok());
    sleep(100);
    disk_size = f.attributes().disk_size_bytes;
  });
  CHECK(held == 1);
  CHECK(disk_size == 5 * kBlockSize);
}

TEST_CASE("a range that is lost can be punched away, and then all is well", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(1, 1));
  put(file, 2, blocks(1, 2));
  f.faulty.set_plan({.seed = 1, .rules = {{.op = DeviceOp::write, .range = f.data_blocks()}}});
  CHECK_FALSE(file.write_back().ok());
  CHECK(file.has_lost_pages());
  REQUIRE(what(file.punch(0, 3 * kBlockSize, kNow)) == "ok");
  CHECK_FALSE(file.has_lost_pages());
  put(file, 5, blocks(1, 3));
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 6 * kBlockSize);
  CHECK(holes_of(f, 6) == ".....x");
  CHECK(f.check_items() == "");
}

TEST_CASE("a long range goes in a chain of transactions", "[data]") {
  DataSetup setup;
  setup.device_blocks = 65536;
  setup.interval = Interval::sector_512;
  DataFixture f(setup);
  FileData& file = f.make_file();
  Prng prng(4);
  std::vector<std::byte> expected(40 << 20);
  const auto write = [&](uint64_t offset, size_t length) {
    const auto bytes = random_bytes(prng, length);
    REQUIRE(file.write(offset, payload_of(bytes), kNow).value() == length);
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<ptrdiff_t>(offset));
  };
  for (uint64_t at = 0; at < expected.size(); at += 1 << 20) write(at, 1 << 20);
  CHECK(what(file.write_back()) == "ok");
  for (uint64_t block = 0; block < 6000; block += 2) write(block * kBlockSize, 100);
  CHECK(what(file.write_back()) == "ok");
  const uint64_t before = f.store->counters().transactions;
  const uint64_t end = expected.size() - 3 * kBlockSize - 77;
  REQUIRE(what(file.punch(1000, end - 1000, kNow)) == "ok");
  CHECK(f.store->counters().transactions > before + 2);
  zero_out(expected, 1000, end);
  CHECK(f.attributes().block_count == 5);
  CHECK(f.check_items() == "");
  CHECK(contents(file, 0, expected.size()) == expected);
  REQUIRE(what(file.write_back()) == "ok");
  f.reopen();
  CHECK(contents(*f.files[0], 0, expected.size()) == expected);
}

TEST_CASE("a full device: punching works, and makes room", "[data]") {
  DataSetup setup;
  setup.device_blocks = 6000;
  DataFixture f(setup);
  FileData& file = f.make_file();
  uint64_t size = 0;
  while (true) {
    const auto written = file.write(size, payload_of(blocks(16, 1)), kNow);
    if (!written.ok()) break;
    size += *written;
  }
  REQUIRE(what(file.write_back()) == "ok");
  // Odd ranges: two edges each need room of their own until they have replaced what is there.
  auto expected = contents(file, 0, size);
  REQUIRE(expected.size() == size);
  for (uint64_t at = 0; at + 50'000 < size; at += 50'000) {
    REQUIRE(what(file.punch(at + 99, 10'000, kNow)) == "ok");
    zero_out(expected, at + 99, at + 10'099);
  }
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(contents(file, 0, size) == expected);
  CHECK(file.write(size, payload_of(blocks(16, 2)), kNow).ok());
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.check_items() == "");
}
