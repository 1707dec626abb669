// SPDX-License-Identifier: GPL-2.0-or-later
// What happens while data is on its way: rewriting pages in flight, order of commits beyond the
// end of the file, failures, throttling, a full or a hung device.
#include <chrono>
#include <thread>

#include "data/extent_map.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow = kPutTime;

}  // namespace

TEST_CASE("a page rewritten in flight: readers see the new version, the old one lands first",
          "[data]") {
  DataFixture f(at_once());
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(2, 1));
  wait_until([&] { return f.device.held() == 1; });

  put(file, 0, blocks(1, 2));                                                 // whole: swapped
  REQUIRE(file.write(kBlockSize + 10, payload_of(filled(5, 3)), kNow).ok());  // part: copied
  CHECK(f.context->counters().stable_swaps == 1);
  CHECK(f.context->counters().stable_copies == 1);
  CHECK(f.context->gauges().shadow_bytes == 2 * kBlockSize);
  auto expected = blocks(2, 1);
  std::fill_n(expected.begin(), kBlockSize, std::byte{2});
  std::fill_n(expected.begin() + kBlockSize + 10, 5, std::byte{3});
  CHECK(contents(file, 0, 10000) == expected);
  CHECK(f.device.held() == 1);  // never two versions of a page in flight

  f.device.open();
  CHECK(what(file.write_back()) == "ok");
  CHECK(contents(file, 0, 10000) == expected);
  f.reopen();
  CHECK(contents(*f.files[0], 0, 10000) == expected);
  CHECK(f.verifying.verifying_counters().mismatches == 0);
  CHECK(f.verifying.verifying_counters().checked > 0);
}

TEST_CASE("the size on disk waits for what lies below", "[data]") {
  DataFixture f(at_once());
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(1, 1));
  put(file, 5, blocks(1, 2));
  wait_until([&] { return f.device.held() == 2; });
  f.device.release_last();  // the upper one arrives first
  CHECK(f.attributes().disk_size_bytes == 0);
  CHECK(f.attributes().size_bytes == 6 * kBlockSize);
  f.device.open();
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 6 * kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("bytes appended to the last block in flight are not covered by the size", "[data]") {
  DataFixture f(at_once());
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  REQUIRE(file.write(0, payload_of(filled(100, 1)), kNow).ok());
  wait_until([&] { return f.device.held() == 1; });
  REQUIRE(file.write(100, payload_of(filled(100, 2)), kNow).ok());
  f.device.release_last();  // version one, 100 bytes
  wait_until([&] { return f.device.held() == 1; });
  CHECK(f.attributes().disk_size_bytes == 100);
  f.device.open();
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 200);
}

TEST_CASE("a failed write keeps the old mapping, is reported and not retried", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(10, 1));
  REQUIRE(what(file.write_back()) == "ok");
  const uint64_t blocks_before = f.attributes().block_count;

  f.faulty.set_plan({.seed = 1, .rules = {{.op = DeviceOp::write, .range = f.data_blocks()}}});
  put(file, 3, blocks(2, 2));
  const Status failed = file.write_back();
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.error().code() == ErrorCode::writeback_failed);
  CHECK(file.error_count() == 1);
  CHECK(f.logger.lines == 2);  // what was lost, and what follows
  CHECK(f.logger.last.find("offset 12288") != std::string::npos);
  CHECK(f.context->counters().ordered_failed == 1);
  CHECK(f.attributes().block_count == blocks_before);
  CHECK(contents(file, 3 * kBlockSize, 8192) == blocks(2, 2));  // readable as long as in memory
  CHECK_FALSE(file.write_back().ok());                          // and no success as long as it is
  CHECK(file.error_count() == 1);
  CHECK(f.check_items() == "");

  SECTION("written again it is tried again") {
    put(file, 4, blocks(1, 3));
    CHECK_FALSE(file.write_back().ok());  // the block before it is still lost
    SECTION("and with nothing lost any more it succeeds") {
      put(file, 3, blocks(1, 1));
      CHECK(what(file.write_back()) == "ok");
    }
    f.reopen();
    CHECK(contents(*f.files[0], 3 * kBlockSize, 4096) == blocks(1, 1));
    CHECK(contents(*f.files[0], 4 * kBlockSize, 4096) == blocks(1, 3));
  }
  SECTION("forgotten it is the old content") {
    f.reopen();
    CHECK(contents(*f.files[0], 0, 50000) == blocks(10, 1));
  }
  SECTION("cut off it is gone") {
    REQUIRE(what(file.truncate(3 * kBlockSize, kNow)) == "ok");
    REQUIRE(what(file.truncate(5 * kBlockSize, kNow)) == "ok");
    CHECK(contents(file, 3 * kBlockSize, 8192) == blocks(2, 0));
  }
}

TEST_CASE("after lost data beyond the end the size stays before it", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(1, 1));
  put(file, 2, blocks(1, 2));  // two ordered extents
  f.faulty.set_plan({.seed = 1, .rules = {{.op = DeviceOp::write, .range = f.data_blocks()}}});
  CHECK_FALSE(file.write_back().ok());
  CHECK(f.attributes().disk_size_bytes == 0);
  CHECK(f.attributes().block_count == 0);
  CHECK(contents(file, 2 * kBlockSize, 4096) == blocks(1, 2));
  put(file, 5, blocks(1, 3));
  CHECK_FALSE(file.write_back().ok());  // cannot be reached by any size
  CHECK(f.attributes().disk_size_bytes == 0);
  put(file, 0, blocks(3, 4));
  put(file, 5, blocks(1, 4));
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 6 * kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("a short completion is carried on, one without progress fails", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  const FaultRule rule{.kind = FaultKind::short_transfer,
                       .op = DeviceOp::write,
                       .range = f.data_blocks(),
                       .times = 3};
  f.faulty.set_plan({.seed = 5, .rules = {rule}});
  put(file, 0, blocks(300, 9));
  const Status status = file.write_back();
  CHECK(f.faulty.faults() > 0);
  if (status.ok()) {
    f.reopen();
    CHECK(contents(*f.files[0], 0, 300 * kBlockSize) == blocks(300, 9));
  } else {
    CHECK(f.attributes().block_count == 0);
  }
  CHECK(f.check_items() == "");
}

TEST_CASE("truncation cancels what is in flight beyond, and frees its blocks", "[data]") {
  DataFixture f(at_once());
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(2, 1));
  put(file, 10, blocks(5, 2));
  wait_until([&] { return f.device.held() == 2; });
  Thread truncate("truncate", [&] { FS_ASSERT(file.truncate(kBlockSize + 7, kNow).ok()); });
  Thread opener("opener", [&] { f.device.open(); });
  truncate.join();
  opener.join();
  CHECK(f.attributes().size_bytes == kBlockSize + 7);
  CHECK(what(file.write_back()) == "ok");
  CHECK(file.error_count() == 0);
  CHECK(f.attributes().block_count == 2);
  CHECK(f.attributes().disk_size_bytes == kBlockSize + 7);
  CHECK(f.check_items() == "");
  REQUIRE(what(file.remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("write_back waits for what was dirty at the call only", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(4, 1));
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> rewrites{0};
  Thread writer("writer", [&] {
    while (!stop) {
      FS_ASSERT(file.write(0, payload_of(blocks(4, 2)), kNow).ok());
      ++rewrites;
    }
  });
  for (int i = 0; i < 50; ++i) {
    const uint64_t before = rewrites;
    while (rewrites < before + 2) {
    }
    CHECK(what(file.write_back()) == "ok");
  }
  stop = true;
  writer.join();
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.verifying.verifying_counters().mismatches == 0);
}

TEST_CASE("writers beyond the dirty limit wait for writeback, and it comes", "[data]") {
  DataSetup setup;
  setup.dirty_limit_bytes = 1 << 20;
  DataFixture f(setup);
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  std::atomic<uint64_t> written{0};
  Thread writer("writer", [&] {
    for (uint64_t at = 0; at < 2048; at += 16) {
      FS_ASSERT(file.write(at * kBlockSize, payload_of(blocks(16, 5)), kNow).ok());
      written += 16 * kBlockSize;
    }
  });
  wait_until([&] { return f.context->counters().throttle_waits > 0; });
  CHECK(written <= (1 << 20) + 16 * kBlockSize);
  f.device.open();
  writer.join();
  CHECK(what(file.write_back()) == "ok");
  CHECK(contents(file, 0, 2048 * kBlockSize) == blocks(2048, 5));
}

TEST_CASE("a full device: short counts, then no_space; what was accepted stays", "[data]") {
  DataSetup setup;
  setup.device_blocks = 6000;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& file = f.make_file();
  uint64_t accepted = 0;
  Prng prng(1);
  const auto bytes = random_bytes(prng, 64 * kBlockSize);
  while (true) {
    const auto rest = std::span<const std::byte>(bytes).subspan(accepted % bytes.size());
    const auto written = file.write(accepted, payload_of(rest), kNow);
    if (!written.ok()) {
      CHECK(written.error().code() == ErrorCode::no_space);
      break;
    }
    accepted += *written;
    CHECK(f.attributes().size_bytes == accepted);
    if (prng.chance(4)) REQUIRE(what(file.write_back()) == "ok");
  }
  CHECK(accepted > 100 * kBlockSize);
  CHECK(accepted % kBlockSize == 0);
  REQUIRE(what(file.write_back()) == "ok");
  const auto all = contents(file, 0, accepted);
  REQUIRE(all.size() == accepted);
  for (uint64_t at = 0; at < accepted; at += bytes.size()) {
    const size_t length = std::min<uint64_t>(bytes.size(), accepted - at);
    REQUIRE(std::memcmp(all.data() + at, bytes.data(), length) == 0);
  }
  REQUIRE(what(file.truncate(accepted / 2, kNow)) == "ok");
  CHECK(file.write(accepted / 2, payload_of(bytes), kNow).ok());
  REQUIRE(what(file.remove_all()) == "ok");
  CHECK(f.check_items() == "");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

// Far more than the transit reserve, so that it is used again and again.
TEST_CASE("a full device: what is there can be overwritten", "[data]") {
  DataSetup setup;
  setup.device_blocks = 6000;
  setup.asynchronous = true;
  DataFixture f(setup);
  FileData& file = f.make_file();
  uint64_t size = 0;
  while (true) {
    const auto written = file.write(size, payload_of(blocks(16, 1)), kNow);
    if (!written.ok()) break;
    size += *written;
  }
  REQUIRE(what(file.write_back()) == "ok");
  Prng prng(3);
  std::vector<std::byte> expected = contents(file, 0, size);
  for (int i = 0; i < 3000; ++i) {
    const uint64_t length = (1 + prng.below(i % 2 == 0 ? 4 : 100)) * kBlockSize;
    const uint64_t offset = prng.below((size - length) / kBlockSize) * kBlockSize;
    const auto bytes = random_bytes(prng, length);
    const auto written = file.write(offset, payload_of(bytes), kNow);
    INFO(i << ": " << length << " bytes at " << offset);
    REQUIRE(what(written) == "ok");
    std::memcpy(expected.data() + offset, bytes.data(), *written);
    REQUIRE(*written == length);
  }
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(contents(file, 0, size) == expected);
  CHECK(f.check_items() == "");
}

TEST_CASE("abandoning ends every wait although the device hangs", "[data]") {
  DataFixture f(at_once());
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  put(file, 0, blocks(10, 1));
  wait_until([&] { return f.device.held() == 1; });
  put(file, 3, blocks(1, 2));
  std::atomic<int> ended{0};
  std::vector<Thread> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.emplace_back("waiter", [&, i] {
      const Status status = i == 0   ? file.write_back()
                            : i == 1 ? f.context->sync_all()
                                     : file.truncate(100, kNow);
      FS_ASSERT(!status.ok());
      ++ended;
    });
  }
  f.context->abandon();
  waiters.clear();
  CHECK(ended == 3);
  CHECK(file.write(0, payload_of(blocks(1, 1)), kNow).error().code() == ErrorCode::shut_down);
  f.device.open();  // as `abort` of the device would
  f.context->stop();
}

TEST_CASE("the writeback thread submits after the delay, and at once under pressure", "[data]") {
  DataSetup setup;
  SECTION("delay") {
    setup.writeback_delay_ns = 20 * kNsPerMs;
  }
  SECTION("half of the limit") {
    setup.dirty_limit_bytes = 20 * kBlockSize;
  }
  DataFixture f(setup);
  FileData& file = f.make_file();
  put(file, 0, blocks(12, 1));
  wait_until([&] { return !file.has_dirty_pages(); });
  CHECK(f.attributes().disk_size_bytes == 12 * kBlockSize);
}

TEST_CASE("clean pages stay up to the limit, those read lately longest", "[data]") {
  DataSetup setup;
  setup.keep_clean = true;
  setup.clean_limit_bytes = 256 * kBlockSize;
  DataFixture f(setup);
  FileData& file = f.make_file();
  FileData& other = f.make_file();
  put(file, 0, blocks(64, 1));
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.context->gauges().clean_bytes == 64 * kBlockSize);
  const uint64_t misses = f.context->counters().cache_misses;
  CHECK(contents(file, 0, 64 * kBlockSize) == blocks(64, 1));
  CHECK(f.context->counters().cache_misses == misses);
  for (uint64_t at = 0; at < 512; at += 64) put(other, at, blocks(64, 2));
  REQUIRE(what(other.write_back()) == "ok");
  contents(other, 0, 512 * kBlockSize);
  wait_until([&] { return f.context->gauges().clean_bytes <= 256 * kBlockSize; });
  file.drop_clean();
  other.drop_clean();
  CHECK(f.context->gauges().clean_bytes == 0);
  CHECK(contents(file, 0, 64 * kBlockSize) == blocks(64, 1));
  CHECK(f.context->gauges().clean_bytes == 64 * kBlockSize);
}

TEST_CASE("sync_all covers all files, while some go and come", "[data]") {
  DataSetup setup;
  setup.asynchronous = true;
  DataFixture f(setup);
  for (int i = 0; i < 20; ++i) put(f.make_file(), 0, blocks(3, i));
  std::atomic<bool> stop{false};
  InodeState passing(f.store->new_ino());
  {
    MutexLock lock(passing.mutex);
    passing.attributes.mode = S_IFREG | 0600;
  }
  Thread traffic("traffic", [&] {
    while (!stop) {
      const auto file = f.context->open(passing);
      FS_ASSERT(file->write(0, payload_of(blocks(2, 1)), kNow).ok());
      FS_ASSERT(file->remove_all().ok());
      {
        MutexLock lock(passing.mutex);
        passing.attributes.size_bytes = passing.attributes.disk_size_bytes = 0;
      }
    }
  });
  for (int round = 0; round < 20; ++round) {
    for (auto& file : f.files) put(*file, static_cast<uint64_t>(round), blocks(1, 7));
    CHECK(what(f.context->sync_all()) == "ok");
    for (auto& file : f.files) CHECK_FALSE(file->has_dirty_pages());
  }
  stop = true;
  traffic.join();
  CHECK(f.check_items() == "");
}

TEST_CASE("an application tag set while data is in flight is in its tuples, too", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  Prng prng(1);
  REQUIRE(file.write(0, payload_of(random_bytes(prng, 20 * kBlockSize)), kNow).ok());
  f.device.close(f.data_blocks());
  Thread writer("writer", [&] { (void)file.write_back(); });
  wait_until([&] { return f.device.held() != 0; });
  std::atomic<bool> set{false};
  Thread setter("setter", [&] { set = file.set_app_tag(0xBEEF, kNow).ok(); });
  // Time for a change that does not wait to be over.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK_FALSE(set);
  f.device.open();
  writer.join();
  setter.join();
  CHECK(set);
  const auto runs = file.mapped_runs(0, 20);
  REQUIRE(runs.ok());
  size_t tuples = 0;
  for (const Run& run : *runs) {
    for (const Tuple& tuple : run.tuples) tuples += tuple.app_tag == 0xBEEF ? 1 : 0;
  }
  CHECK(tuples == 20);
}
