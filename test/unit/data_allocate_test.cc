// SPDX-License-Identifier: GPL-2.0-or-later
// Preallocation: what becomes unwritten, writing into it in place, the promise of space, what takes
// it away again.
#include <algorithm>

#include "data/extent_map.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{2000, 7};
constexpr Timestamp kLater{3000, 8};

std::vector<Run> runs_of(DataFixture& f, uint64_t end_block) {
  const auto runs = f.files[0]->mapped_runs(0, end_block);
  REQUIRE(what(runs) == "ok");
  return *runs;
}

// A letter a block: hole, unwritten, written.
std::string map_of(DataFixture& f, uint64_t end_block) {
  std::string text;
  for (const Run& run : runs_of(f, end_block)) {
    text.append(run.length_blocks, ".ux"[static_cast<size_t>(run.kind)]);
  }
  return text;
}

Lba place_of(DataFixture& f, uint64_t block) {
  return runs_of(f, block + 1).back().lba + (block - runs_of(f, block + 1).back().first_block);
}

void allocate(FileData& file, uint64_t block, uint64_t count, bool keep_size = false) {
  REQUIRE(what(file.allocate(block * kBlockSize, count * kBlockSize, keep_size, kLater)) == "ok");
}

// Until nothing more is to be had; returns the blocks.
uint64_t fill_up(DataFixture& f, FileData& file) {
  uint64_t size = 0;
  while (true) {
    const auto written = file.write(size, payload_of(blocks(1, 9)), kNow);
    if (!written.ok()) {
      REQUIRE(written.error().code() == ErrorCode::no_space);
      if (!file.has_dirty_pages()) break;
      REQUIRE(what(file.write_back()) == "ok");
      REQUIRE(f.store->checkpoint().ok());
      continue;
    }
    size += *written;
  }
  return size / kBlockSize;
}

}  // namespace

TEST_CASE("allocating fills holes with unwritten blocks, whatever the bytes", "[data]") {
  DataFixture f;
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& file = f.make_file();
  put(file, 2, blocks(2, 1));
  REQUIRE(what(file.write_back()) == "ok");
  REQUIRE(what(file.allocate(kBlockSize + 5, 5 * kBlockSize, true, kLater)) == "ok");
  CHECK(map_of(f, 8) == ".uxxuuu.");
  CHECK(f.attributes().size_bytes == 4 * kBlockSize);
  CHECK(f.attributes().block_count == 6);
  CHECK(f.attributes().change_time == kLater);
  auto expected = blocks(2, 0);
  const auto data = blocks(2, 1);
  expected.insert(expected.end(), data.begin(), data.end());
  CHECK(contents(file, 0, 50'000) == expected);
  CHECK(f.check_items() == "");
  CHECK(f.unwritten_blocks == 4);

  REQUIRE(what(file.allocate(0, 7 * kBlockSize + 9, false, kLater)) == "ok");
  CHECK(map_of(f, 9) == "uuxxuuuu.");
  CHECK(f.attributes().size_bytes == 7 * kBlockSize + 9);
  CHECK(f.attributes().disk_size_bytes == 7 * kBlockSize + 9);
  expected.resize(7 * kBlockSize + 9);
  f.reopen();
  CHECK(contents(*f.files[0], 0, 50'000) == expected);
  CHECK(f.files[0]->seek(0, false).value() == 2 * kBlockSize);
  CHECK(f.files[0]->seek(2 * kBlockSize, true).value() == 4 * kBlockSize);
  CHECK(f.files[0]->seek(4 * kBlockSize, false).error().code() == ErrorCode::seek_beyond_end);
  REQUIRE(what(f.files[0]->remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
  CHECK(f.store->space_usage().unwritten_blocks == 0);
}

TEST_CASE("data goes into the unwritten blocks themselves", "[data]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  DataSetup setup;
  setup.interval = interval;
  DataFixture f(setup);
  FileData& file = f.make_file();
  allocate(file, 0, 100);
  const Lba start = place_of(f, 0);
  put(file, 20, blocks(30, 1));
  REQUIRE(file.write(3 * kBlockSize + 100, payload_of(blocks(1, 2)), kNow).ok());
  CHECK(file.seek(0, false).value() == 3 * kBlockSize);  // dirty is data
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(map_of(f, 25) == "uuuxxuuuuuuuuuuuuuuuxxxxx");
  CHECK(place_of(f, 20) == start + 20);
  CHECK(place_of(f, 49) == start + 49);
  CHECK(place_of(f, 4) == start + 4);
  CHECK(f.attributes().block_count == 100);
  CHECK(file.promised_blocks() == 0);
  CHECK(f.check_items() == "");
  CHECK(f.unwritten_blocks == 68);
  // Once written, a block is replaced like any other.
  put(file, 20, blocks(1, 3));
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(place_of(f, 20) != start + 20);
  f.reopen();
  auto expected = blocks(100, 0);
  const auto fill = [&](uint64_t from, uint64_t length, int value) {
    std::fill_n(expected.begin() + static_cast<ptrdiff_t>(from), length,
                static_cast<std::byte>(value));
  };
  fill(3 * kBlockSize + 100, kBlockSize, 2);
  fill(20 * kBlockSize, 30 * kBlockSize, 1);
  fill(20 * kBlockSize, kBlockSize, 3);
  CHECK(contents(*f.files[0], 0, 1 << 20) == expected);
  CHECK(f.check_items() == "");
}

TEST_CASE("a write into unwritten blocks that fails leaves them unwritten", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  allocate(file, 0, 10);
  put(file, 2, blocks(3, 1));
  f.faulty.set_plan(
      {.seed = 1, .rules = {{.kind = FaultKind::fail_after, .range = f.data_blocks()}}});
  CHECK_FALSE(file.write_back().ok());
  CHECK(map_of(f, 10) == "uuuuuuuuuu");
  CHECK(f.attributes().block_count == 10);
  CHECK(f.check_items() == "");
  f.faulty.set_plan({});
  put(file, 2, blocks(3, 2));
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(map_of(f, 10) == "uuxxxuuuuu");
  f.reopen();
  CHECK(contents(*f.files[0], 2 * kBlockSize, 3 * kBlockSize) == blocks(3, 2));
  CHECK(f.check_items() == "");
}

TEST_CASE("truncating and punching take preallocation away, also behind the end", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(2, 1));
  allocate(file, 0, 20, true);
  REQUIRE(what(file.punch(10 * kBlockSize, 2 * kBlockSize, kNow)) == "ok");
  CHECK(map_of(f, 21) == "uuuuuuuuuu..uuuuuuuu.");  // the first two are dirty
  CHECK(contents(file, 0, 20'000) == blocks(2, 1));
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.attributes().block_count == 18);
  REQUIRE(what(file.truncate(2 * kBlockSize, kNow)) == "ok");  // the size it has
  CHECK(map_of(f, 21) == "xx...................");
  CHECK(f.attributes().block_count == 2);
  allocate(file, 1, 20, true);
  REQUIRE(what(file.truncate(5 * kBlockSize, kNow)) == "ok");  // longer: it stays
  CHECK(map_of(f, 21) == "xxuuuuuuuuuuuuuuuuuuu");
  REQUIRE(what(file.truncate(3 * kBlockSize, kNow)) == "ok");
  CHECK(map_of(f, 21) == "xxu..................");
  CHECK(f.check_items() == "");
}

TEST_CASE("zeroing keeps the space, in blocks that were never written", "[data]") {
  const bool committed = GENERATE(true, false);
  DataFixture f;
  FileData& file = f.make_file();
  put(file, 0, blocks(6, 1));
  put(file, 8, blocks(2, 1));
  if (committed) REQUIRE(what(file.write_back()) == "ok");
  const std::string before = map_of(f, 10);
  CHECK(before == (committed ? "xxxxxx..xx" : ".........."));
  const Lba written = committed ? place_of(f, 2) : Lba(0);
  REQUIRE(what(file.zero(kBlockSize + 10, 8 * kBlockSize, false, kLater)) == "ok");
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(map_of(f, 10) == "xxuuuuuuux");
  if (committed) CHECK(place_of(f, 2) != written);
  auto expected = blocks(10, 1);
  std::fill(expected.begin() + kBlockSize + 10, expected.begin() + 9 * kBlockSize + 10,
            std::byte{0});
  CHECK(contents(file, 0, 50'000) == expected);
  CHECK(f.attributes().block_count == 10);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(contents(*f.files[0], 0, 50'000) == expected);
  CHECK(f.check_items() == "");
}

TEST_CASE("too much is refused at once and leaves nothing behind", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  const auto refused = [&](uint64_t offset, uint64_t length) {
    const Status status = file.allocate(offset, length, false, kNow);
    REQUIRE_FALSE(status.ok());
    return status.error().code();
  };
  CHECK(refused(0, f.setup.device_blocks * kBlockSize) == ErrorCode::no_space);
  CHECK(refused(0, 1ull << 50) == ErrorCode::no_space);
  CHECK(refused(1, kMaxFileBytes - 1) == ErrorCode::no_space);
  CHECK(refused(1, kMaxFileBytes) == ErrorCode::file_too_large);
  CHECK(f.attributes().size_bytes == 0);
  CHECK(f.attributes().block_count == 0);
  CHECK(f.store->gauges().blocks_reserved == 0);
  CHECK(f.check_items() == "");
}

TEST_CASE("dirty pages in holes are no obstacle when space is short", "[data]") {
  DataSetup setup;
  setup.device_blocks = 6000;
  DataFixture f(setup);
  FileData& file = f.make_file();
  const uint64_t half = f.store->space_usage().available_blocks * 16 / 17 * 6 / 10;
  for (uint64_t block = 0; block < half; block += 16) put(file, block, blocks(16, 1));
  allocate(file, 0, half);
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(map_of(f, half) == std::string(half, 'x'));
  CHECK(f.check_items() == "");
}

// The promise: on a device that is full to the last block, every block can be written, and then
// overwritten again and again; one at a time, in any order, which makes the most of metadata, or
// first in one piece, which makes the least, so that there is more to come.
TEST_CASE("preallocated space can be written and overwritten on a full device", "[data]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  const bool remounts = GENERATE(false, true);
  const bool sequential = GENERATE(false, true);
  DataSetup setup;
  setup.device_blocks = 8192;
  setup.interval = interval;
  DataFixture f(setup);
  f.make_file();
  constexpr uint64_t kBlocks = 3000;
  allocate(*f.files[0], 0, kBlocks);
  FileData& filler = f.make_file();
  CHECK(fill_up(f, filler) > 1000);
  if (remounts) f.reopen();  // the promise is not only in memory
  FileData& file = *f.files[0];
  Prng prng(5);
  std::vector<uint8_t> model(kBlocks);
  std::vector<uint64_t> order(kBlocks);
  for (uint64_t i = 0; i < kBlocks; ++i) order[i] = i;
  for (uint64_t i = sequential ? 1 : kBlocks; --i > 0;)
    std::swap(order[i], order[prng.below(i + 1)]);
  const auto write_one = [&](uint64_t block) {
    const auto value = static_cast<uint8_t>(1 + prng.below(255));
    const auto written = file.write(block * kBlockSize, payload_of(blocks(1, value)), kNow);
    INFO("block " << block);
    REQUIRE(what(written) == "ok");
    model[block] = value;
  };
  for (uint64_t i = 0; i < kBlocks; ++i) {
    write_one(order[i]);
    if (i % (sequential ? 500 : 50) == 49) REQUIRE(what(file.write_back()) == "ok");
  }
  REQUIRE(what(file.write_back()) == "ok");
  for (uint64_t i = 0; i < 2 * kBlocks; ++i) {
    write_one(prng.below(kBlocks));
    if (i % 50 == 49) REQUIRE(what(file.write_back()) == "ok");
  }
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.check_items() == "");
  CHECK(f.unwritten_blocks == 0);
  for (uint64_t block = 0; block < kBlocks; ++block) {
    if (contents(file, block * kBlockSize, kBlockSize) != blocks(1, model[block])) {
      FAIL("block " << block);
    }
  }
}

TEST_CASE("zeroing on a full device keeps its space through the transit reserve", "[data]") {
  DataSetup setup;
  setup.device_blocks = 8192;
  DataFixture f(setup);
  FileData& file = f.make_file();
  const uint64_t length = fill_up(f, file);
  REQUIRE(length > 2000);
  REQUIRE(what(file.zero(100, length * kBlockSize - 200, true, kNow)) == "ok");
  REQUIRE(what(file.write_back()) == "ok");
  auto expected = blocks(length, 0);
  std::fill_n(expected.begin(), 100, std::byte{9});
  std::fill_n(expected.end() - 100, 100, std::byte{9});
  CHECK(contents(file, 0, length * kBlockSize) == expected);
  CHECK(f.attributes().block_count == length);
  CHECK(f.check_items() == "");
  CHECK(f.unwritten_blocks == length - 2);
}

TEST_CASE("the number of unwritten blocks survives a crash", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  allocate(file, 0, 50);
  REQUIRE(f.store->checkpoint().ok());
  allocate(file, 60, 10);
  put(file, 0, blocks(5, 1));
  REQUIRE(what(file.write_back()) == "ok");
  REQUIRE(f.store->sync(f.store->last_sequence()).ok());
  const MemoryImage image = f.memory.durable_image();
  MemoryDevice after(image);
  StoreOptions options;
  options.clock = f.clock;
  options.logger = &f.logger;
  options.background = false;
  auto store = Store::open(after, options);
  REQUIRE(store.ok());
  CHECK((*store)->space_usage().unwritten_blocks == 55);
}
