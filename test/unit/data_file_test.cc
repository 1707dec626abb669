// SPDX-License-Identifier: GPL-2.0-or-later
// One file at a time against a model of its bytes, and the single promises of FileData.
#include <algorithm>

#include "data/extent_map.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{1000, 5};

struct FileModel {
  std::vector<std::byte> bytes;
  std::set<uint64_t> data;  // blocks that are not holes

  void write(uint64_t offset, std::span<const std::byte> content) {
    if (bytes.size() < offset + content.size()) bytes.resize(offset + content.size());
    std::copy(content.begin(), content.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
    for (uint64_t block = offset / kBlockSize; block * kBlockSize < offset + content.size();
         ++block) {
      data.insert(block);
    }
  }
  void truncate(uint64_t size) {
    bytes.resize(size);
    data.erase(data.lower_bound(blocks_for_bytes(size)), data.end());
  }
  void zero(uint64_t offset, uint64_t end, bool keep_size) {
    const uint64_t size = bytes.size();
    const uint64_t last = std::min(end, size);
    if (offset < last) {
      std::fill(bytes.begin() + static_cast<ptrdiff_t>(offset),
                bytes.begin() + static_cast<ptrdiff_t>(last), std::byte{0});
    }
    for (uint64_t block = blocks_for_bytes(offset); block * kBlockSize < last; ++block) {
      if (end >= std::min(size, (block + 1) * kBlockSize)) data.erase(block);
    }
    if (!keep_size && end > size) bytes.resize(end);
  }
  std::optional<uint64_t> seek(uint64_t offset, bool hole) const {
    if (offset >= bytes.size()) return std::nullopt;
    for (uint64_t block = offset / kBlockSize; block * kBlockSize < bytes.size(); ++block) {
      if (data.contains(block) != hole) return std::max(offset, block * kBlockSize);
    }
    return hole ? std::optional(bytes.size()) : std::nullopt;
  }
};

void check_read(FileData& file, const FileModel& model, uint64_t offset, size_t length,
                size_t misalign = 0) {
  AlignedBuffer memory(blocks_for_bytes(length + misalign) * kBlockSize + kBlockSize);
  const std::span<std::byte> out = memory.span().subspan(misalign, length);
  std::memset(out.data(), 0xEE, length);
  const auto read = file.read(offset, out);
  REQUIRE(what(read) == "ok");
  const uint64_t size = model.bytes.size();
  const uint64_t expected = offset >= size ? 0 : std::min<uint64_t>(length, size - offset);
  REQUIRE(*read == expected);
  if (expected > 0) {
    const auto first = model.bytes.begin() + static_cast<ptrdiff_t>(offset);
    const auto mismatch =
        std::mismatch(first, first + static_cast<ptrdiff_t>(expected), out.begin());
    if (mismatch.second != out.begin() + static_cast<ptrdiff_t>(expected)) {
      FAIL("read differs at offset "
           << offset + static_cast<uint64_t>(mismatch.second - out.begin()));
    }
  }
  for (size_t i = expected; i < length; ++i) REQUIRE(out[i] == std::byte{0xEE});
}

void check_seek(FileData& file, const FileModel& model, uint64_t offset, bool hole) {
  const auto found = file.seek(offset, hole);
  const auto expected = model.seek(offset, hole);
  INFO("seek from " << offset << " hole " << hole);
  REQUIRE(found.ok() == expected.has_value());
  if (expected) REQUIRE(*found == *expected);
  if (!expected) REQUIRE(found.error().code() == ErrorCode::seek_beyond_end);
}

uint64_t write_ok(FileData& file, FileModel& model, uint64_t offset,
                  std::span<const std::byte> bytes) {
  const auto written = file.write(offset, payload_of(bytes), kNow);
  REQUIRE(what(written) == "ok");
  model.write(offset, bytes.first(*written));
  return *written;
}

void random_step(DataFixture& f, FileModel& model, Prng& prng) {
  FileData& file = *f.files[0];
  const uint64_t area = 3'000'000;
  const uint64_t size = model.bytes.size();
  const uint64_t offset = prng.chance(4)   ? size - std::min(size, prng.below(10000))
                          : prng.chance(3) ? prng.below(area / kBlockSize) * kBlockSize
                                           : prng.below(prng.chance(2) ? 50000 : area);
  const size_t length = prng.chance(10) ? 100000 + prng.below(400000) : 1 + prng.below(9000);
  switch (prng.below(12)) {
    case 0:
    case 1:
    case 2:
    case 3: {
      REQUIRE(write_ok(file, model, offset, random_bytes(prng, length)) == length);
      break;
    }
    case 4:
    case 5:
      check_read(file, model, offset, length, prng.chance(2) ? prng.below(4096) : 0);
      break;
    case 6: {
      const uint64_t to = prng.chance(3)   ? size + prng.below(20000)
                          : prng.chance(8) ? 0
                                           : prng.below(size + 1);
      REQUIRE(what(file.truncate(to, kNow)) == "ok");
      model.truncate(to);
      if (size < to) CHECK(f.attributes().disk_size_bytes == to);
      break;
    }
    case 7:
      if (prng.chance(2)) break;
      REQUIRE(what(file.write_back()) == "ok");
      CHECK_FALSE(file.has_dirty_pages());
      CHECK(file.promised_blocks() == 0);
      CHECK(f.attributes().disk_size_bytes == model.bytes.size());
      break;
    case 8:
      check_seek(file, model, offset, prng.chance(2));
      break;
    case 9:
      if (prng.chance(3)) file.drop_clean();
      break;
    case 10:
      REQUIRE(what(file.punch(offset, length, kNow)) == "ok");
      model.zero(offset, offset + length, true);
      break;
    case 11: {
      const bool keep_size = prng.chance(2);
      REQUIRE(what(file.zero(offset, length, keep_size, kNow)) == "ok");
      model.zero(offset, offset + length, keep_size);
      break;
    }
  }
  REQUIRE(f.attributes().size_bytes == model.bytes.size());
}

}  // namespace

TEST_CASE("a file agrees with a model of its bytes through random operations", "[data][long]") {
  const uint64_t seed = GENERATE(range(1, 25));
  INFO("seed " << seed);
  DataSetup setup;
  setup.seed = seed;
  setup.interval = seed % 3 == 0 ? Interval::sector_512 : Interval::block_4096;
  setup.keep_clean = seed % 2 == 0;
  setup.clean_limit_bytes = 400 * 4096;
  setup.asynchronous = seed % 4 < 2;
  setup.writeback_delay_ns = seed % 5 == 0 ? 0 : seed % 5 == 1 ? kNsPerMs : 3600 * kNsPerSecond;
  setup.dirty_limit_bytes = seed % 7 == 0 ? 600'000 : 256 << 20;
  DataFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  f.make_file();
  FileModel model;
  Prng prng(seed);
  for (int step = 0; step < 400; ++step) {
    random_step(f, model, prng);
    if (step % 100 == 50) {
      f.reopen();
      REQUIRE(f.check_items() == "");
      check_read(*f.files[0], model, 0, model.bytes.size() + 10);
    }
  }
  check_read(*f.files[0], model, 0, model.bytes.size() + 10);
  REQUIRE(what(f.files[0]->write_back()) == "ok");
  CHECK(f.check_items() == "");
  REQUIRE(what(f.files[0]->remove_all()) == "ok");
  CHECK(f.attributes().block_count == 0);
  CHECK(f.check_items() == "");
  CHECK(f.verifying.verifying_counters().mismatches == 0);
  const DataGauges gauges = f.context->gauges();
  CHECK(gauges.dirty_bytes + gauges.writeback_bytes + gauges.shadow_bytes == 0);
  CHECK(gauges.ordered_in_flight == 0);
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("write moves size and times, and nothing on disk before writeback", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(1);
  write_ok(file, model, 10, random_bytes(prng, 5000));
  CHECK(f.attributes().size_bytes == 5010);
  CHECK(f.attributes().disk_size_bytes == 0);
  CHECK(f.attributes().modify_time == kNow);
  CHECK(f.attributes().change_time == kNow);
  CHECK(file.has_dirty_pages());
  CHECK(file.promised_blocks() == 2);
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 5010);
  CHECK(f.attributes().block_count == 2);
  CHECK_FALSE(file.has_dirty_pages());
}

TEST_CASE("a page-aligned payload of 128 KiB is adopted, a smaller one copied", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(2);
  write_ok(file, model, 0, random_bytes(prng, 128 * 1024 + 100));
  CHECK(f.context->counters().pages_adopted == 32);
  write_ok(file, model, 1 << 20, random_bytes(prng, 64 * 1024));
  CHECK(f.context->counters().pages_copied == 16);
  write_ok(file, model, 77, random_bytes(prng, 128 * 1024));  // not aligned in the file
  CHECK(f.context->counters().pages_adopted == 32);
  check_read(file, model, 0, 2 << 20);
  CHECK(what(file.write_back()) == "ok");
  check_read(file, model, 0, 2 << 20);
}

TEST_CASE("what was cut off does not come back when the file grows again", "[data]") {
  DataSetup setup;
  setup.keep_clean = GENERATE(false, true);
  DataFixture f(setup);
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(3);
  write_ok(file, model, 0, random_bytes(prng, 20000));
  CHECK(what(file.write_back()) == "ok");
  const bool reload = GENERATE(false, true);
  REQUIRE(what(file.truncate(5000, kNow)) == "ok");
  model.truncate(5000);
  if (reload) f.reopen();
  FileData& now = *f.files[0];
  const int how = GENERATE(0, 1, 2);
  if (how == 0) {
    REQUIRE(what(now.truncate(20000, kNow)) == "ok");
    model.truncate(20000);
  } else if (how == 1) {
    write_ok(now, model, 15000, random_bytes(prng, 10));
  } else {
    write_ok(now, model, 6000, random_bytes(prng, 10));
  }
  check_read(now, model, 0, 30000);
  f.reopen();
  check_read(*f.files[0], model, 0, 30000);
  CHECK(f.check_items() == "");
}

TEST_CASE("a truncation that frees more than one transaction takes leaves no intent", "[data]") {
  DataSetup setup;
  setup.device_blocks = 65536;
  setup.interval = Interval::sector_512;
  DataFixture f(setup);
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(4);
  for (uint64_t at = 0; at < 40 << 20; at += 1 << 20) {
    write_ok(file, model, at, random_bytes(prng, 1 << 20));
  }
  // Many small extents beside the long ones.
  CHECK(what(file.write_back()) == "ok");
  for (uint64_t block = 0; block < 6000; block += 2) {
    write_ok(file, model, block * kBlockSize, random_bytes(prng, 100));
  }
  CHECK(what(file.write_back()) == "ok");
  CHECK(f.check_items() == "");
  const uint64_t before = f.store->counters().transactions;
  REQUIRE(what(file.truncate(1000, kNow)) == "ok");
  CHECK(f.store->counters().transactions > before + 2);
  model.truncate(1000);
  CHECK(f.attributes().block_count == 1);
  CHECK(f.store->get(Key::global(ItemKind::orphan, f.inodes[0]->ino.value))->has_value() == false);
  CHECK(f.check_items() == "");
  check_read(file, model, 0, 5000);
}

TEST_CASE("a truncation does not touch the intent of an unlinked file", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(5);
  for (uint64_t block = 0; block < 8000; block += 2) {
    write_ok(file, model, block * kBlockSize, random_bytes(prng, 100));
  }
  CHECK(what(file.write_back()) == "ok");
  DiskOrphan orphan{};
  orphan.intent = static_cast<uint8_t>(OrphanIntent::remove);
  const Key key = Key::global(ItemKind::orphan, f.inodes[0]->ino.value);
  Transaction unlink;
  unlink.put_struct(key, orphan);
  REQUIRE(f.store->commit(unlink, false).ok());
  REQUIRE(what(file.truncate(0, kNow)) == "ok");
  CHECK(f.attributes().block_count == 0);
  const auto left = f.store->get(key);
  REQUIRE(left->has_value());
  CHECK((**left)[0] == std::byte{1});
}

TEST_CASE("free_extents adds the last operations to its last transaction, once", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(6);
  for (uint64_t block = 0; block < 9000; block += 2) {
    write_ok(file, model, block * kBlockSize, random_bytes(prng, 100));
  }
  CHECK(what(file.write_back()) == "ok");
  int calls = 0;
  const Key key = Key::global(ItemKind::orphan, f.inodes[0]->ino.value);
  DiskOrphan orphan{};
  orphan.intent = static_cast<uint8_t>(OrphanIntent::truncate);
  Transaction put;
  put.put_struct(key, orphan);
  REQUIRE(f.store->commit(put, false).ok());
  const auto last = [&](Transaction& transaction) {
    ++calls;
    transaction.erase(key);
  };
  REQUIRE(what(file.free_extents(0, last)) == "ok");
  CHECK(calls == 1);
  CHECK(f.attributes().block_count == 0);
  CHECK_FALSE(f.store->get(key)->has_value());
  REQUIRE(f.store->commit(put, false).ok());
  REQUIRE(what(file.free_extents(0, last)) == "ok");  // nothing to free: still called
  CHECK(calls == 2);
}

TEST_CASE("offsets up to the largest file are served, beyond are refused", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  Prng prng(7);
  const auto bytes = random_bytes(prng, 100);
  REQUIRE(what(file.write(kMaxFileBytes - 100, payload_of(bytes), kNow)) == "ok");
  CHECK(file.write(kMaxFileBytes - 99, payload_of(bytes), kNow).error().code() ==
        ErrorCode::file_too_large);
  CHECK(file.write(~0ull, payload_of(bytes), kNow).error().code() == ErrorCode::file_too_large);
  CHECK(file.truncate(kMaxFileBytes + 1, kNow).error().code() == ErrorCode::file_too_large);
  CHECK(what(file.write_back()) == "ok");
  std::vector<std::byte> out(200);
  const auto read = file.read(kMaxFileBytes - 100, out);
  REQUIRE(read.ok());
  CHECK(*read == 100);
  CHECK(std::equal(bytes.begin(), bytes.end(), out.begin()));
  CHECK(file.read(~0ull, out).value() == 0);
  CHECK(file.read(5, out).value() == 200);
  CHECK(file.seek(0, false).value() == kMaxFileBytes / kBlockSize * kBlockSize - kBlockSize * 0 -
                                           (kMaxFileBytes % kBlockSize == 0 ? kBlockSize : 0));
  CHECK(file.seek(0, true).value() == 0);
  CHECK(what(file.truncate(0, kNow)) == "ok");
  CHECK(f.check_items() == "");
}

TEST_CASE("a block that rotted is never returned; the error names the place", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(8);
  write_ok(file, model, 0, random_bytes(prng, 20 * kBlockSize));
  CHECK(what(file.write_back()) == "ok");
  const auto runs = ExtentMap(*f.store, f.inodes[0]->ino).lookup(7, 8);
  const Lba lba = runs->front().lba;

  SECTION("for good") {
    AlignedBuffer block(kBlockSize);
    REQUIRE(f.memory.read(lba, block.span()).ok());
    block.span()[100] ^= std::byte{4};
    REQUIRE(f.memory.write(lba, block.span()).ok());
    std::vector<std::byte> out(20 * kBlockSize);
    const auto read = file.read(0, out);
    REQUIRE_FALSE(read.ok());
    CHECK(read.error().code() == ErrorCode::guard_mismatch);
    CHECK(f.logger.last.find("offset 28672") != std::string::npos);
    CHECK(f.logger.last.find("guard") != std::string::npos);
    CHECK(f.context->counters().guard_mismatches == 1);
    check_read(file, model, 0, 7 * kBlockSize);
    // A partial write must not build on it, a whole one replaces it.
    CHECK_FALSE(file.write(7 * kBlockSize + 5, payload_of(random_bytes(prng, 5)), kNow).ok());
    write_ok(file, model, 7 * kBlockSize, random_bytes(prng, kBlockSize));
    check_read(file, model, 0, 20 * kBlockSize);
  }
  SECTION("once: the second read is right") {
    f.faulty.set_plan({.seed = 1, .rules = {{.kind = FaultKind::corrupt_read}}});
    check_read(file, model, 0, 20 * kBlockSize);
    CHECK(f.context->counters().guard_mismatches == 1);
  }
  SECTION("a block of another place is told by its reference tag or guard") {
    AlignedBuffer other(kBlockSize);
    REQUIRE(f.memory.read(lba + 1, other.span()).ok());
    REQUIRE(f.memory.write(lba, other.span()).ok());
    std::vector<std::byte> out(20 * kBlockSize);
    CHECK_FALSE(file.read(0, out).ok());
  }
}

TEST_CASE("tuples carry the application tag of the file", "[data]") {
  DataFixture f;
  FileData& file = f.make_file();
  FileModel model;
  Prng prng(9);
  write_ok(file, model, 0, random_bytes(prng, 30 * kBlockSize));
  CHECK(what(file.write_back()) == "ok");
  const auto runs = ExtentMap(*f.store, f.inodes[0]->ino).lookup(0, 30);
  for (const Run& run : *runs) {
    for (size_t i = 0; i < run.tuples.size(); ++i) {
      CHECK(run.tuples[i].app_tag == 0x1234);
      CHECK(run.tuples[i].reference_tag == static_cast<uint32_t>(run.lba.value + i));
    }
  }
}
