// SPDX-License-Identifier: GPL-2.0-or-later
// Copies between files: what is shared and what is copied, who keeps what when the others change or
// go, tags, damage, want of space, chains, and many threads that copy to and fro.
#include <algorithm>

#include "base/scheduler.h"
#include "data/extent_map.h"
#include "data_fixture.h"
#include "direct_writing.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{2000, 7};
constexpr Timestamp kLater{3000, 8};

std::vector<std::byte> contents(FileData& file) {
  return contents(file, 0, 4 << 20);
}

uint64_t copy(FileData& from, uint64_t offset, FileData& to, uint64_t to_offset, uint64_t length) {
  const auto copied = from.copy_range(offset, to, to_offset, length, kLater);
  REQUIRE(what(copied) == "ok");
  return *copied;
}

// Where the blocks of a file are; 0: a hole.
std::vector<uint64_t> places(FileData& file, uint64_t end_block) {
  std::vector<uint64_t> lbas;
  const auto runs = file.mapped_runs(0, end_block);
  REQUIRE(what(runs) == "ok");
  for (const Run& run : *runs) {
    for (uint64_t i = 0; i < run.length_blocks; ++i) {
      lbas.push_back(run.kind == RunKind::written ? run.lba.value + i : 0);
    }
  }
  return lbas;
}

std::vector<Tuple> tuples_of(FileData& file, uint64_t end_block) {
  std::vector<Tuple> tuples;
  const auto runs = file.mapped_runs(0, end_block);
  REQUIRE(what(runs) == "ok");
  for (const Run& run : *runs) tuples.insert(tuples.end(), run.tuples.begin(), run.tuples.end());
  return tuples;
}

bool all_tagged(const std::vector<Tuple>& tuples, uint16_t tag) {
  return !tuples.empty() && std::all_of(tuples.begin(), tuples.end(),
                                        [tag](const Tuple& tuple) { return tuple.app_tag == tag; });
}

// For checks that print something people can read.
std::string difference(const std::vector<std::byte>& one, const std::vector<std::byte>& other) {
  if (one.size() != other.size()) {
    return std::to_string(one.size()) + " bytes instead of " + std::to_string(other.size());
  }
  const auto at = std::mismatch(one.begin(), one.end(), other.begin()).first;
  return at == one.end() ? "" : "different at " + std::to_string(at - one.begin());
}

void overlay(std::vector<std::byte>& model, uint64_t offset, std::span<const std::byte> bytes) {
  if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
}

}  // namespace

TEST_CASE("a copied file shares its blocks until one of both changes", "[data][clone]") {
  const size_t length = GENERATE(3 * kBlockSize, 100 * kBlockSize, 100 * kBlockSize + 77);
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  const bool committed = GENERATE(true, false);
  INFO("length " << length << " committed " << committed);
  DataSetup setup;
  setup.interval = interval;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  Prng prng(length);
  const auto original = random_bytes(prng, length);
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, original);
  if (committed) REQUIRE(what(source.write_back()) == "ok");
  CHECK(copy(source, 0, target, 0, 1 << 30) == length);
  const uint64_t file_blocks = blocks_for_bytes(length);
  CHECK((places(source, file_blocks) == places(target, file_blocks)));
  CHECK(difference(contents(target), original) == "");
  CHECK(f.attributes(1).block_count == file_blocks);
  CHECK(f.attributes(1).size_bytes == length);
  CHECK(f.attributes(1).disk_size_bytes == length);
  CHECK(f.attributes(1).modify_time == kLater);
  CHECK(f.attributes(0).modify_time == kNow);
  CHECK(f.allocated_blocks() == allocated_at_start + file_blocks);
  CHECK(f.context->counters().shared_bytes == length);
  CHECK(f.context->counters().copied_bytes == 0);
  CHECK(f.check_items() == "");

  auto changed = original;
  FileData& writer = GENERATE(0, 1) == 0 ? source : target;
  FileData& other = &writer == &source ? target : source;
  const auto bytes = random_bytes(prng, 6000);
  put_at(writer, 1000, bytes);
  overlay(changed, 1000, bytes);
  REQUIRE(what(writer.write_back()) == "ok");
  CHECK(difference(contents(writer), changed) == "");
  CHECK(difference(contents(other), original) == "");
  CHECK(f.allocated_blocks() == allocated_at_start + file_blocks + 2);
  CHECK(f.check_items() == "");
  REQUIRE(what(other.truncate(kBlockSize, kNow)) == "ok");
  REQUIRE(what(writer.punch(2 * kBlockSize, kBlockSize, kNow)) == "ok");
  CHECK(f.check_items() == "");
  f.reopen();
  FileData& first = *f.files[0];
  FileData& second = *f.files[1];
  CHECK(f.check_items() == "");
  REQUIRE(what(first.remove_all()) == "ok");
  CHECK(f.check_items() == "");
  REQUIRE(what(second.remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("of ranges that lie alike whole blocks are shared, other bytes are copied",
          "[data][clone]") {
  struct Case {
    uint64_t offset, target_offset, length, shared_blocks;
  };
  const Case test =
      GENERATE(Case{100, 100, 50'000, 11}, Case{100, 4196, 50'000, 11}, Case{0, 8192, 40'000, 9},
               Case{4096, 0, 4095, 0}, Case{100, 200, 50'000, 0}, Case{70'000, 70'000, 1 << 20, 7});
  INFO("from " << test.offset << " to " << test.target_offset << " length " << test.length);
  DataFixture f;
  Prng prng(5);
  const auto original = random_bytes(prng, 100'000);
  auto expected = random_bytes(prng, 60'000);
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, original);
  put_at(target, 0, expected);
  if (GENERATE(false, true)) REQUIRE(what(target.write_back()) == "ok");
  const uint64_t length = std::min<uint64_t>(test.length, original.size() - test.offset);
  CHECK(copy(source, test.offset, target, test.target_offset, test.length) == length);
  overlay(expected, test.target_offset, std::span(original).subspan(test.offset, length));
  CHECK(difference(contents(target), expected) == "");
  CHECK(difference(contents(source), original) == "");
  REQUIRE(what(target.write_back()) == "ok");
  uint64_t shared = 0;
  const auto from = places(source, 25);
  for (const uint64_t lba : places(target, 60)) {
    shared += lba != 0 && std::count(from.begin(), from.end(), lba) != 0;
  }
  CHECK(shared == test.shared_blocks);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[1]), expected) == "");
  CHECK(difference(contents(*f.files[0]), original) == "");
}

// Neither file shows what lies behind its end in the last block.
TEST_CASE("a shared last block: each file goes on from it in its own way", "[data][clone]") {
  DataFixture f;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, blocks(3, 7));
  REQUIRE(what(source.write_back()) == "ok");
  REQUIRE(what(source.truncate(2 * kBlockSize + 50, kNow)) == "ok");
  CHECK(copy(source, 0, target, 0, 1 << 20) == 2 * kBlockSize + 50);
  CHECK((places(source, 3) == places(target, 3)));
  auto expected = filled(2 * kBlockSize + 50, 7);
  auto longer = expected;
  longer.resize(2 * kBlockSize + 60);
  longer.push_back(std::byte{9});
  put_at(target, 2 * kBlockSize + 60, filled(1, 9));
  CHECK(difference(contents(target), longer) == "");
  CHECK(difference(contents(source), expected) == "");
  REQUIRE(what(source.truncate(5 * kBlockSize, kNow)) == "ok");
  expected.resize(5 * kBlockSize);
  CHECK(difference(contents(source), expected) == "");
  CHECK(difference(contents(target), longer) == "");
  REQUIRE(what(f.context->sync_all()) == "ok");
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[0]), expected) == "");
  CHECK(difference(contents(*f.files[1]), longer) == "");
}

TEST_CASE("a last block is not shared into the middle of a file", "[data][clone]") {
  DataFixture f;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, filled(kBlockSize + 50, 7));
  put_at(target, 0, filled(3 * kBlockSize, 8));
  CHECK(copy(source, 0, target, 0, 1 << 20) == kBlockSize + 50);
  auto expected = filled(3 * kBlockSize, 8);
  overlay(expected, 0, filled(kBlockSize + 50, 7));
  CHECK(difference(contents(target), expected) == "");
  REQUIRE(what(target.write_back()) == "ok");
  CHECK((places(source, 1) == places(target, 1)));
  CHECK(places(source, 2)[1] != places(target, 2)[1]);
  CHECK(f.check_items() == "");
}

TEST_CASE("holes stay holes, and a copy to behind the end leaves one", "[data][clone]") {
  DataFixture f;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 4 * kBlockSize, blocks(2, 1));
  REQUIRE(what(source.truncate(10 * kBlockSize, kNow)) == "ok");
  put_at(target, 0, filled(8 * kBlockSize + 9, 5));
  CHECK(copy(source, 0, target, 20 * kBlockSize, 1 << 20) == 10 * kBlockSize);
  auto expected = filled(8 * kBlockSize + 9, 5);
  expected.resize(30 * kBlockSize);
  overlay(expected, 24 * kBlockSize, blocks(2, 1));
  CHECK(difference(contents(target), expected) == "");
  CHECK(copy(source, 0, target, 0, 6 * kBlockSize) == 6 * kBlockSize);
  overlay(expected, 0, blocks(4, 0));
  overlay(expected, 4 * kBlockSize, blocks(2, 1));
  CHECK(difference(contents(target), expected) == "");
  CHECK(copy(source, 10 * kBlockSize, target, 0, 5000) == 0);
  CHECK(copy(source, 1 << 20, target, 0, 5000) == 0);
  REQUIRE(what(target.write_back()) == "ok");
  // 4 + 5, of which the first four are holes now; the block of the old end, and two.
  CHECK(f.attributes(1).block_count <= 10);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[1]), expected) == "");
}

TEST_CASE("unwritten blocks are holes to a copy, and go when they are copied over",
          "[data][clone]") {
  DataFixture f;
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  REQUIRE(what(source.allocate(0, 20 * kBlockSize, false, kNow)) == "ok");
  REQUIRE(what(target.allocate(0, 30 * kBlockSize, false, kNow)) == "ok");
  put_at(source, 5 * kBlockSize, blocks(10, 3));
  put_at(target, 25 * kBlockSize, blocks(1, 4));
  CHECK(copy(source, 0, target, 0, 1 << 30) == 20 * kBlockSize);
  CHECK((places(source, 20) == places(target, 20)));
  auto expected = blocks(30, 0);
  overlay(expected, 5 * kBlockSize, blocks(10, 3));
  overlay(expected, 25 * kBlockSize, blocks(1, 4));
  CHECK(difference(contents(target), expected) == "");
  REQUIRE(what(target.write_back()) == "ok");
  CHECK(f.attributes(0).block_count == 20);
  CHECK(f.attributes(1).block_count == 20);
  CHECK(f.allocated_blocks() == allocated_at_start + 30);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[1]), expected) == "");
}

TEST_CASE("shared blocks are zeroed, punched and written past the cache in one file only",
          "[data][clone]") {
  const size_t count = GENERATE(40, 700);
  DataFixture f;
  const uint64_t allocated_at_start = f.allocated_blocks();
  Prng prng(count);
  const auto original = random_bytes(prng, count * kBlockSize);
  auto expected = original;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, original);
  REQUIRE(copy(source, 0, target, 0, 1 << 30) == original.size());
  const size_t changed = count - 10;
  REQUIRE(what(target.zero(kBlockSize, changed * kBlockSize, true, kLater)) == "ok");
  overlay(expected, kBlockSize, blocks(changed, 0));
  CHECK(f.check_items() == "");
  REQUIRE(what(target.punch((count - 8) * kBlockSize, 3 * kBlockSize, kLater)) == "ok");
  overlay(expected, (count - 8) * kBlockSize, blocks(3, 0));
  const auto bytes = random_bytes(prng, 2 * kBlockSize);
  for (const uint64_t block : {uint64_t{3}, count - 4}) {
    const auto written = write_directly(target, block * kBlockSize, bytes, kLater);
    REQUIRE(what(written) == "ok");
    overlay(expected, block * kBlockSize, bytes);
  }
  CHECK(difference(contents(target), expected) == "");
  CHECK(difference(contents(source), original) == "");
  CHECK(f.attributes(1).block_count == count - 3);
  CHECK(f.allocated_blocks() == allocated_at_start + count + changed + 2);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[0]), original) == "");
  CHECK(difference(contents(*f.files[1]), expected) == "");
  REQUIRE(what(f.files[0]->remove_all()) == "ok");
  REQUIRE(what(f.files[1]->remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("a file is copied within itself, but not onto itself", "[data][clone]") {
  const bool extends = GENERATE(false, true);
  DataFixture f;
  const uint64_t allocated_at_start = f.allocated_blocks();
  Prng prng(3);
  FileData& file = f.make_file();
  auto expected = random_bytes(prng, 20 * kBlockSize + 5);
  put_at(file, 0, expected);
  REQUIRE(what(file.write_back()) == "ok");
  const uint64_t to = extends ? 20 * kBlockSize : 10 * kBlockSize;
  CHECK(copy(file, 0, file, to, 5 * kBlockSize) == 5 * kBlockSize);
  const std::vector<std::byte> part(expected.begin(), expected.begin() + 5 * kBlockSize);
  overlay(expected, to, part);
  CHECK(difference(contents(file), expected) == "");
  CHECK(f.attributes().block_count == (extends ? 25 : 21));
  const auto lbas = places(file, 25);
  CHECK(std::equal(lbas.begin(), lbas.begin() + 5,
                   lbas.begin() + static_cast<ptrdiff_t>(to / kBlockSize)));
  CHECK(f.check_items() == "");
  for (const uint64_t bad : {uint64_t{1}, uint64_t{5 * kBlockSize - 1}, uint64_t{0}}) {
    const auto copied = file.copy_range(0, file, bad, 5 * kBlockSize, kNow);
    REQUIRE_FALSE(copied.ok());
    CHECK(copied.error().code() == ErrorCode::invalid_argument);
  }
  // The same blocks a third time, then over themselves.
  CHECK(copy(file, 0, file, 30 * kBlockSize, 5 * kBlockSize) == 5 * kBlockSize);
  CHECK(copy(file, 0, file, 30 * kBlockSize, 5 * kBlockSize) == 5 * kBlockSize);
  overlay(expected, 30 * kBlockSize, part);
  CHECK(difference(contents(file), expected) == "");
  CHECK(f.check_items() == "");
  REQUIRE(what(file.truncate(2 * kBlockSize, kNow)) == "ok");
  CHECK(f.check_items() == "");
  REQUIRE(what(file.remove_all()) == "ok");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("what is dirty or in flight when it is copied", "[data][clone]") {
  DataSetup setup;
  setup.writeback_delay_ns = GENERATE(uint64_t{0}, 3600 * kNsPerSecond);
  setup.keep_clean = GENERATE(false, true);
  DataFixture f(setup);
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, blocks(8, 1));
  put_at(target, 0, blocks(12, 2));
  REQUIRE(what(f.context->sync_all()) == "ok");
  contents(source);
  contents(target);
  f.device.close(f.data_blocks());
  put_at(source, 2 * kBlockSize, blocks(2, 3));
  put_at(target, 1 * kBlockSize, blocks(2, 4));
  put_at(target, 10 * kBlockSize, blocks(1, 5));
  std::atomic<bool> done{false};
  Thread copier("copier", [&] {
    FS_ASSERT(source.copy_range(0, target, 0, 8 * kBlockSize, kNow).ok());
    done = true;
  });
  if (setup.writeback_delay_ns == 0) wait_until([&] { return f.device.held() >= 2; });
  CHECK_FALSE(done);
  f.device.open();
  copier.join();
  auto expected = blocks(8, 1);
  overlay(expected, 2 * kBlockSize, blocks(2, 3));
  CHECK(difference(contents(source), expected) == "");
  expected.resize(12 * kBlockSize, std::byte{2});
  overlay(expected, 10 * kBlockSize, blocks(1, 5));
  CHECK(difference(contents(target), expected) == "");
  CHECK((places(source, 8) == places(target, 8)));
  REQUIRE(what(f.context->sync_all()) == "ok");
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[1]), expected) == "");
}

TEST_CASE("what the device refused is copied from memory, not shared", "[data][clone]") {
  DataFixture f;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  put_at(source, 0, blocks(4, 1));
  REQUIRE(what(source.write_back()) == "ok");
  put_at(source, kBlockSize, blocks(1, 2));
  f.faulty.set_plan({.seed = 1, .rules = {{.op = DeviceOp::write, .range = f.data_blocks()}}});
  CHECK_FALSE(source.write_back().ok());
  f.faulty.set_plan({});
  auto expected = blocks(4, 1);
  overlay(expected, kBlockSize, blocks(1, 2));
  uint64_t done = 0;
  while (done < expected.size()) done += copy(source, done, target, done, expected.size() - done);
  CHECK(difference(contents(target), expected) == "");
  REQUIRE(what(target.write_back()) == "ok");
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(difference(contents(*f.files[1]), expected) == "");
}

TEST_CASE("files with different application tags share nothing", "[data][clone]") {
  DataFixture f;
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  const auto bytes = blocks(20, 1);
  put_at(source, 0, bytes);
  REQUIRE(what(target.set_app_tag(0x77, kNow)) == "ok");
  CHECK(copy(source, 0, target, 0, bytes.size()) == bytes.size());
  CHECK(f.context->counters().shared_bytes == 0);
  CHECK(difference(contents(target), bytes) == "");
  REQUIRE(what(target.write_back()) == "ok");
  CHECK(all_tagged(tuples_of(source, 20), 0x1234));
  CHECK(all_tagged(tuples_of(target, 20), 0x77));
  CHECK(f.check_items() == "");
}

TEST_CASE("a tag is set on a file that shares: the others keep theirs", "[data][clone]") {
  const size_t length = GENERATE(5, 700);
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  DataSetup setup;
  setup.interval = interval;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  const auto bytes = blocks(length, 1);
  put_at(source, 0, bytes);
  CHECK(copy(source, 0, target, 0, bytes.size()) == bytes.size());
  put_at(target, kBlockSize, blocks(2, 2));
  REQUIRE(what(target.write_back()) == "ok");
  auto expected = bytes;
  overlay(expected, kBlockSize, blocks(2, 2));
  FileData& tagged = GENERATE(0, 1) == 0 ? source : target;
  REQUIRE(what(tagged.set_app_tag(0x77, kNow)) == "ok");
  CHECK(all_tagged(tuples_of(source, length), &tagged == &source ? 0x77 : 0x1234));
  CHECK(all_tagged(tuples_of(target, length), &tagged == &target ? 0x77 : 0x1234));
  CHECK(difference(contents(source), bytes) == "");
  CHECK(difference(contents(target), expected) == "");
  CHECK(f.check_items() == "");
  CHECK(f.allocated_blocks() == allocated_at_start + 2 * length);
}

TEST_CASE("a file in many pieces is shared by a chain, a call does not do without end",
          "[data][clone]") {
  DataSetup setup;
  setup.interval = GENERATE(Interval::block_4096, Interval::sector_512);
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  FileData& other = f.make_file();
  constexpr size_t kBlocks = 3000;
  Prng prng(9);
  auto expected = random_bytes(prng, kBlocks * kBlockSize);
  put_at(source, 0, expected);
  REQUIRE(what(source.write_back()) == "ok");
  for (uint64_t block = 0; block < kBlocks; block += 2) {
    const auto bytes = random_bytes(prng, kBlockSize);
    put_at(source, block * kBlockSize, bytes);
    overlay(expected, block * kBlockSize, bytes);
  }
  REQUIRE(what(source.write_back()) == "ok");
  const uint64_t before = f.store->counters().transactions;
  CHECK(copy(source, 0, target, 0, 1 << 30) == expected.size());
  CHECK(f.store->counters().transactions > before + 1);
  CHECK(difference(contents(target, 0, 16 << 20), expected) == "");
  CHECK((places(source, kBlocks) == places(target, kBlocks)));
  CHECK(f.check_items() == "");
  // A third owner of some blocks here and there cuts the references into pieces.
  for (uint64_t block = 1; block < kBlocks; block += 5) {
    CHECK(copy(target, block * kBlockSize, other, block * kBlockSize, 2 * kBlockSize) ==
          std::min<uint64_t>(2, kBlocks - block) * kBlockSize);
  }
  CHECK(f.check_items() == "");
  // One write over all that is shared in pieces.
  const auto fresh = random_bytes(prng, kBlocks * kBlockSize);
  put_at(target, 0, fresh);
  REQUIRE(what(target.write_back()) == "ok");
  CHECK(difference(contents(target, 0, 16 << 20), fresh) == "");
  CHECK(difference(contents(source, 0, 16 << 20), expected) == "");
  CHECK(f.check_items() == "");
  for (const size_t file : {1, 0, 2}) {
    REQUIRE(what(f.files[file]->remove_all()) == "ok");
    CHECK(f.check_items() == "");
  }
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("a thousand copies, removed in any order", "[data][clone]") {
  DataFixture f;
  const uint64_t allocated_at_start = f.allocated_blocks();
  Prng prng(1);
  const auto bytes = random_bytes(prng, 30 * kBlockSize);
  put_at(f.make_file(), 0, bytes);
  for (size_t i = 1; i <= 1000; ++i) {
    FileData& target = f.make_file();
    FileData& source = *f.files[prng.below(i)];
    REQUIRE(copy(source, 0, target, 0, bytes.size()) == bytes.size());
  }
  CHECK(f.allocated_blocks() == allocated_at_start + 30);
  CHECK(f.check_items() == "");
  std::vector<size_t> order(1001);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[prng.below(i)]);
  const size_t last = order.back();
  for (const size_t i : order) {
    if (i == last) CHECK(difference(contents(*f.files[last]), bytes) == "");
    REQUIRE(what(f.files[i]->remove_all()) == "ok");
  }
  CHECK(f.check_items() == "");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

// To write over a shared block takes a block and gives none back.
TEST_CASE("a full device: copies are made, shared blocks cannot be overwritten", "[data][clone]") {
  DataSetup setup;
  setup.device_blocks = 6000;
  DataFixture f(setup);
  FileData& source = f.make_file();
  FileData& target = f.make_file();
  const auto chunk = blocks(16, 1);
  put_at(source, 0, blocks(256, 1));
  REQUIRE(copy(source, 0, target, 0, 1 << 20) == 1 << 20);
  FileData& filler = f.make_file();
  uint64_t filled_bytes = 0;
  for (bool more = true; more;) {
    more = false;
    for (const size_t count : {16, 1}) {
      while (true) {
        const auto written = filler.write(filled_bytes, payload_of(blocks(count, 1)), kNow);
        if (!written.ok()) break;
        filled_bytes += *written;
        more = true;
      }
    }
    // What was set aside for metadata and not needed comes back.
    REQUIRE(what(filler.write_back()) == "ok");
  }
  // One's own: as often as one likes.
  for (int round = 0; round < 3; ++round) {
    for (uint64_t block = 0; block < 256; block += 16) put_at(filler, block * kBlockSize, chunk);
    REQUIRE(what(filler.write_back()) == "ok");
  }
  uint64_t overwritten = 0;
  for (uint64_t block = 0; block < 256; ++block) {
    const auto written = target.write(block * kBlockSize, payload_of(blocks(1, 9)), kNow);
    if (!written.ok()) {
      CHECK(written.error().code() == ErrorCode::no_space);
      break;
    }
    overwritten += *written;
  }
  CHECK(overwritten < 16 * kBlockSize);
  const Status zeroed = target.zero(128 * kBlockSize, 64 * kBlockSize, true, kNow);
  REQUIRE_FALSE(zeroed.ok());
  CHECK(zeroed.error().code() == ErrorCode::no_space);
  REQUIRE(what(target.write_back()) == "ok");
  CHECK_FALSE(target.has_lost_pages());
  CHECK(f.check_items() == "");
  // As soon as the other has gone they are its own.
  REQUIRE(what(source.remove_all()) == "ok");
  for (uint64_t block = 0; block < 256; block += 16) put_at(target, block * kBlockSize, chunk);
  REQUIRE(what(target.write_back()) == "ok");
  CHECK(f.check_items() == "");
}

TEST_CASE("copies, writes, truncations and holes at random against a model",
          "[data][clone][long]") {
  const uint64_t seed = GENERATE(range(1, 13));
  INFO("seed " << seed);
  DataSetup setup;
  setup.seed = seed;
  setup.interval = seed % 3 == 0 ? Interval::sector_512 : Interval::block_4096;
  setup.keep_clean = seed % 2 == 0;
  setup.asynchronous = seed % 4 < 2;
  setup.writeback_delay_ns = seed % 5 == 0 ? 0 : 3600 * kNsPerSecond;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  constexpr size_t kFiles = 5;
  constexpr uint64_t kBytesMax = 200 * kBlockSize;
  std::vector<std::vector<std::byte>> models(kFiles);
  for (size_t i = 0; i < kFiles; ++i) f.make_file();
  Prng prng(seed);
  const auto aligned = [&](uint64_t offset) {
    return prng.chance(2) ? offset / kBlockSize * kBlockSize : offset;
  };
  for (int round = 0; round < 1500; ++round) {
    const size_t file = prng.below(kFiles);
    auto& model = models[file];
    const uint64_t offset = aligned(prng.below(kBytesMax));
    const uint64_t longest = prng.chance(4) ? 100 * kBlockSize : 3 * kBlockSize;
    uint64_t length = 1 + aligned(prng.below(longest));
    switch (prng.below(10)) {
      case 0:
      case 1:
      case 2: {
        const auto bytes = random_bytes(prng, length);
        if (prng.chance(3)) {
          REQUIRE(write_directly(*f.files[file], offset, bytes, kNow).value() == length);
        } else {
          put_at(*f.files[file], offset, bytes);
        }
        overlay(model, offset, bytes);
        break;
      }
      case 3:
        REQUIRE(what(f.files[file]->truncate(offset, kNow)) == "ok");
        model.resize(offset);
        break;
      case 4: {
        FileData& data = *f.files[file];
        const bool keep_size = prng.chance(2);
        const uint64_t kind = prng.below(3);
        if (kind == 0) REQUIRE(what(data.punch(offset, length, kNow)) == "ok");
        if (kind == 1) REQUIRE(what(data.zero(offset, length, keep_size, kNow)) == "ok");
        if (kind == 2) REQUIRE(what(data.allocate(offset, length, keep_size, kNow)) == "ok");
        if (kind != 0 && !keep_size) model.resize(std::max(model.size(), offset + length));
        const uint64_t end = std::min<uint64_t>(offset + length, model.size());
        if (kind != 2 && offset < end) overlay(model, offset, filled(end - offset, 0));
        break;
      }
      case 5:
        REQUIRE(what(f.files[file]->write_back()) == "ok");
        break;
      case 6:
        if (round % 50 == 0) {
          REQUIRE(what(f.files[file]->remove_all()) == "ok");
          REQUIRE(what(f.files[file]->truncate(0, kNow)) == "ok");
          model.clear();
        }
        break;
      default: {
        const size_t to = prng.below(kFiles);
        uint64_t to_offset = aligned(prng.below(kBytesMax));
        if (prng.chance(2)) to_offset += offset % kBlockSize - to_offset % kBlockSize + kBlockSize;
        if (prng.chance(3)) length = kBytesMax;
        const uint64_t there = model.size() > offset ? model.size() - offset : 0;
        const uint64_t wanted = std::min(length, there);
        if (to == file && offset < to_offset + length && to_offset < offset + length) break;
        uint64_t done = 0;
        while (done < wanted) {
          const uint64_t left = (to == file ? wanted : length) - done;
          const uint64_t step =
              copy(*f.files[file], offset + done, *f.files[to], to_offset + done, left);
          REQUIRE(step != 0);
          done += step;
        }
        REQUIRE(done == wanted);
        const std::vector<std::byte> bytes(
            model.begin() + static_cast<ptrdiff_t>(std::min<uint64_t>(offset, model.size())),
            model.begin() +
                static_cast<ptrdiff_t>(std::min<uint64_t>(offset, model.size()) + done));
        if (done != 0) overlay(models[to], to_offset, bytes);
        REQUIRE(difference(contents(*f.files[to]), models[to]) == "");
      }
    }
    if (round % 20 == 0) REQUIRE(difference(contents(*f.files[file]), model) == "");
    if (round % 100 == 0) {
      REQUIRE(what(f.context->sync_all()) == "ok");
      REQUIRE(f.check_items() == "");
    }
    if (round % 400 == 399) f.reopen();
  }
  f.reopen();
  for (size_t i = 0; i < kFiles; ++i) REQUIRE(difference(contents(*f.files[i]), models[i]) == "");
  for (size_t i = 0; i < kFiles; ++i) REQUIRE(what(f.files[i]->remove_all()) == "ok");
  CHECK(f.check_items() == "");
  CHECK(f.allocated_blocks() == allocated_at_start);
}
