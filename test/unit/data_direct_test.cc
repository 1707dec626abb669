// SPDX-License-Identifier: GPL-2.0-or-later
// Direct writes: what is mapped and when, what the cache has of it, parts that fail, full devices.
#include <algorithm>

#include "data/direct_write.h"
#include "data_fixture.h"
#include "direct_writing.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{2000, 7};
constexpr Timestamp kLater{3000, 8};

std::vector<std::byte> read_all(FileData& file, size_t length = 1 << 25) {
  std::vector<std::byte> out(length);
  const auto read = file.read(0, out);
  REQUIRE(what(read) == "ok");
  out.resize(*read);
  return out;
}

void overlay(std::vector<std::byte>& model, uint64_t offset, const std::vector<std::byte>& bytes) {
  if (model.size() < offset + bytes.size()) model.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(offset));
}

FaultPlan fail_data_write(const DataFixture& f, BlockRange data, FaultKind kind, uint64_t which) {
  return {.seed = f.setup.seed,
          .rules = {{.kind = kind, .op = DeviceOp::write, .range = data, .first = which}}};
}

}  // namespace

TEST_CASE("a direct write is mapped when it is answered, and not before", "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  DirectWriting first(file, 0, blocks(3, 1), kLater);
  REQUIRE(what(first.begun()) == "ok");
  CHECK(f.device.held() == 1);
  CHECK_FALSE(first.answered());
  CHECK(f.attributes().size_bytes == 0);
  CHECK(f.context->gauges().direct_bytes == 3 * kBlockSize);
  f.device.open();
  REQUIRE(what(first.wait()) == "ok");
  CHECK(first.wait().value() == 3 * kBlockSize);
  CHECK(f.context->gauges().direct_bytes == 0);
  CHECK(f.attributes().size_bytes == 3 * kBlockSize);
  CHECK(f.attributes().disk_size_bytes == 3 * kBlockSize);
  CHECK(f.attributes().modify_time == kLater);
  CHECK(f.attributes().change_time == kLater);
  CHECK(f.attributes().block_count == 3);
  CHECK_FALSE(file.has_dirty_pages());
  CHECK(f.context->counters().pages_copied == 0);
  CHECK(read_all(file) == blocks(3, 1));
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(read_all(*f.files[0]) == blocks(3, 1));
}

TEST_CASE("direct writes of any alignment beside what the cache has", "[data][direct][long]") {
  const int seed = GENERATE(range(1, 31));
  INFO("seed " << seed);
  DataSetup setup;
  setup.keep_clean = seed % 2 == 0;
  setup.interval = seed % 3 == 0 ? Interval::sector_512 : Interval::block_4096;
  DataFixture f(setup);
  FileData& file = f.make_file();
  Prng prng(static_cast<uint64_t>(seed));
  std::vector<std::byte> model;
  for (int step = 0; step < 60; ++step) {
    const uint64_t grain = prng.chance(3) ? 1 : prng.chance(2) ? 512 : kBlockSize;
    const uint64_t offset = prng.below(20 * kBlockSize / grain) * grain;
    const auto bytes = random_bytes(prng, (1 + prng.below(5 * kBlockSize / grain)) * grain);
    switch (prng.below(6)) {
      case 0:
      case 1:
      case 2: {
        const auto written = write_directly(file, offset, bytes, kNow);
        REQUIRE(what(written) == "ok");
        REQUIRE(*written == bytes.size());
        overlay(model, offset, bytes);
        break;
      }
      case 3:
        put_at(file, offset, bytes);
        overlay(model, offset, bytes);
        break;
      case 4:
        if (prng.chance(2)) REQUIRE(what(file.write_back()) == "ok");
        break;
      case 5:
        REQUIRE(what(file.truncate(offset, kNow)) == "ok");
        model.resize(offset);
        break;
    }
    REQUIRE(f.attributes().size_bytes == model.size());
    REQUIRE(read_all(file) == model);
  }
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.attributes().disk_size_bytes == model.size());
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(read_all(*f.files[0]) == model);
}

TEST_CASE("dirty pages below a direct write go with success and stay after a failure",
          "[data][direct]") {
  const bool fails = GENERATE(false, true);
  const bool mapped = GENERATE(false, true);
  DataFixture f;
  FileData& file = f.make_file();
  put_at(file, 0, blocks(6, 1));
  if (mapped) REQUIRE(what(file.write_back()) == "ok");
  put_at(file, kBlockSize, blocks(3, 2));
  if (fails) f.faulty.set_plan(fail_data_write(f, f.data_blocks(), FaultKind::fail, 1));
  auto model = blocks(6, 1);
  overlay(model, kBlockSize, blocks(3, 2));
  // Of what lies below it in the file nothing may be missing when it is mapped.
  if (!mapped && fails) f.faulty.set_plan(fail_data_write(f, f.data_blocks(), FaultKind::fail, 2));
  const auto written = write_directly(file, kBlockSize, blocks(2, 3), kNow);
  CHECK(written.ok() != fails);
  if (!fails) overlay(model, kBlockSize, blocks(2, 3));
  CHECK(read_all(file) == model);
  CHECK(file.error_count() == 0);
  CHECK_FALSE(file.has_lost_pages());
  CHECK(f.health->allows(Activity::change));
  f.faulty.set_plan({});
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(read_all(*f.files[0]) == model);
}

TEST_CASE("a part that fails ends a direct write there, with the old content behind",
          "[data][direct]") {
  const FaultKind kind =
      GENERATE(FaultKind::fail, FaultKind::fail_after, FaultKind::short_transfer);
  const uint64_t which = GENERATE(range<uint64_t>(1, 5));
  const bool extends = GENERATE(false, true);
  const bool asynchronous = GENERATE(false, true);
  INFO("kind " << int(kind) << " request " << which << " extends " << extends);
  DataSetup setup;
  setup.asynchronous = asynchronous;
  setup.seed = which;
  DataFixture f(setup);
  FileData& file = f.make_file();
  constexpr size_t kPart = 1024;
  auto model = blocks(extends ? kPart / 2 : 3 * kPart + 10, 1);
  put_at(file, 0, model);
  REQUIRE(what(file.write_back()) == "ok");
  const uint64_t allocated = f.allocated_blocks();
  f.faulty.set_plan(fail_data_write(f, f.data_blocks(), kind, which));
  const auto bytes = blocks(3 * kPart, 2);
  const auto written = write_directly(file, 0, bytes, kLater);
  const bool struck = which <= 3 && kind != FaultKind::short_transfer;
  const uint64_t parts = struck ? which - 1 : 3;
  REQUIRE(written.ok() == (parts > 0));
  if (written.ok()) CHECK(*written == parts * kPart * kBlockSize);
  f.faulty.set_plan({});
  overlay(model, 0, blocks(parts * kPart, 2));
  CHECK(f.attributes().size_bytes == model.size());
  CHECK(read_all(file) == model);
  CHECK(f.context->gauges().ordered_in_flight == 0);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK(read_all(*f.files[0]) == model);
  const uint64_t mapped = blocks_for_bytes(model.size());
  CHECK(f.allocated_blocks() == allocated + mapped - (extends ? kPart / 2 : 3 * kPart + 10));
}

TEST_CASE("parts that land in any order are mapped in that of the file", "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  DirectWriting writing(file, 0, blocks(3 * 1024, 5), kNow);
  REQUIRE(what(writing.begun()) == "ok");
  REQUIRE(f.device.held() == 3);
  f.device.release_last();
  f.device.release_last();
  wait_until([&] { return f.memory.counters().writes > 0; });
  CHECK(f.attributes().size_bytes == 0);
  CHECK_FALSE(writing.answered());
  f.device.open();
  REQUIRE(what(writing.wait()) == "ok");
  CHECK(f.attributes().size_bytes == 3 * 1024 * kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("a direct write that lands before what lies below it is held", "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  put_at(file, 3 * kBlockSize, blocks(2, 1));
  f.device.close(f.data_blocks());
  DirectWriting writing(file, 9 * kBlockSize, blocks(2, 2), kNow);
  REQUIRE(what(writing.begun()) == "ok");
  REQUIRE(f.device.held() == 2);
  f.device.release_last();
  const auto is_held = [&] {
    const auto under_way = f.context->in_flight(10);
    return std::any_of(under_way.begin(), under_way.end(),
                       [](const InFlight& one) { return one.direct && one.held; });
  };
  wait_until([&] { return writing.answered() || is_held(); });
  CHECK_FALSE(writing.answered());
  // Mapped, it would lie behind the end that a crash leaves.
  CHECK(f.check_items() == "");
  f.device.open();
  REQUIRE(what(writing.wait()) == "ok");
  CHECK(f.attributes().disk_size_bytes == 11 * kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("direct writes inside the file run side by side, others wait", "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  put_at(file, 0, blocks(8, 1));
  REQUIRE(what(file.write_back()) == "ok");
  f.device.close(f.data_blocks());
  std::vector<std::unique_ptr<DirectWriting>> inside;
  for (uint64_t block = 0; block < 8; block += 2) {
    inside.push_back(std::make_unique<DirectWriting>(file, block * kBlockSize, blocks(1, 2), kNow));
  }
  CHECK(f.device.held() == 4);
  std::string behind_ends;
  Thread behind("behind", [&] {
    behind_ends = what(write_directly(file, 8 * kBlockSize, blocks(1, 3), kNow));
  });
  Thread over("over", [&] { put_at(file, 2 * kBlockSize, blocks(1, 4)); });
  // Between them nothing is in the way.
  auto between = DirectWriting(file, kBlockSize, blocks(1, 5), kNow);
  wait_until([&] { return f.device.held() >= 5; });
  f.device.open();
  for (const auto& writing : inside) CHECK(what(writing->wait()) == "ok");
  CHECK(what(between.wait()) == "ok");
  behind.join();
  over.join();
  CHECK(behind_ends == "ok");
  auto model = blocks(9, 1);
  for (uint64_t block = 0; block < 8; block += 2) overlay(model, block * kBlockSize, blocks(1, 2));
  overlay(model, 2 * kBlockSize, blocks(1, 4));
  overlay(model, kBlockSize, blocks(1, 5));
  overlay(model, 8 * kBlockSize, blocks(1, 3));
  CHECK(read_all(file) == model);
}

TEST_CASE("a direct write behind dirty pages does not wait for the writeback delay",
          "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  put_at(file, 0, blocks(4, 1));
  put_at(file, 6 * kBlockSize + 100, blocks(2, 1));
  const bool far = GENERATE(false, true);
  REQUIRE(what(write_directly(file, (far ? 20 : 7) * kBlockSize, blocks(1, 2), kNow)) == "ok");
  CHECK(f.attributes().disk_size_bytes >= 8 * kBlockSize);
  CHECK(f.check_items() == "");
}

TEST_CASE("behind an unaligned end a direct write leaves zeros", "[data][direct]") {
  const uint64_t offset = GENERATE(4096u, 4096u + 512u, 3 * 4096u, 3 * 4096u + 700u);
  DataFixture f;
  FileData& file = f.make_file();
  // What the device has behind the end is not zero.
  put_at(file, 0, blocks(2, 9));
  REQUIRE(what(file.write_back()) == "ok");
  REQUIRE(what(file.truncate(kBlockSize + 100, kNow)) == "ok");
  auto model = blocks(2, 9);
  model.resize(kBlockSize + 100);
  const auto bytes = blocks(1, 3);
  REQUIRE(what(write_directly(file, offset, bytes, kNow)) == "ok");
  overlay(model, offset, bytes);
  CHECK(read_all(file) == model);
  f.reopen();
  CHECK(read_all(*f.files[0]) == model);
}

TEST_CASE("a full device: as much of a direct write as there is space for", "[data][direct]") {
  DataSetup setup;
  setup.device_blocks = 4096;
  DataFixture f(setup);
  FileData& file = f.make_file();
  uint64_t offset = 0;
  bool was_short = false;
  while (true) {
    const auto bytes = blocks(200, 1);
    const auto written = write_directly(file, offset, bytes, kNow);
    if (!written.ok()) {
      CHECK(written.error().code() == ErrorCode::no_space);
      break;
    }
    was_short |= *written < bytes.size();
    offset += *written;
    REQUIRE(offset < 4096 * kBlockSize);
  }
  CHECK(was_short);
  CHECK(f.attributes().size_bytes == offset);
  CHECK(read_all(file) == blocks(offset / kBlockSize, 1));
  // What is there can be overwritten, also where it is dirty.
  for (int round = 2; round < 10; ++round) {
    if (round % 2 == 0) put_at(file, 10 * kBlockSize, blocks(50, 77));
    const auto written = write_directly(file, 0, blocks(200, round), kNow);
    REQUIRE(what(written) == "ok");
    REQUIRE(*written == 200 * kBlockSize);
  }
  REQUIRE(what(file.write_back()) == "ok");
  CHECK(f.check_items() == "");
}

// A database takes a short write for an error.
TEST_CASE("a full device: what has its space is written as a whole, in pieces or not",
          "[data][direct]") {
  constexpr uint64_t kBlocks = 300;
  // More than may be in transit at a time, or less.
  DataSetup setup;
  setup.device_blocks = GENERATE(4096, 16384);
  const uint64_t stride = GENERATE(0, 2, 7, 100);
  INFO("device " << setup.device_blocks << " stride " << stride);
  DataFixture f(setup);
  FileData& file = f.make_file();
  REQUIRE(what(file.allocate(0, kBlocks * kBlockSize, false, kNow)) == "ok");
  FileData& filler = f.make_file();
  for (uint64_t offset = 0, count = 256; count > 0;) {
    const auto written = write_directly(filler, offset, blocks(count, 1), kNow);
    if (written.ok()) offset += *written;
    if (!written.ok()) count /= 2;
  }
  // Unwritten blocks in place, and holes in them that are written at other places.
  auto model = blocks(kBlocks, 0);
  for (uint64_t block = 0; stride != 0 && block < kBlocks; block += stride) {
    const auto written = write_directly(file, block * kBlockSize, blocks(1, 2), kNow);
    REQUIRE(what(written) == "ok");
    overlay(model, block * kBlockSize, blocks(1, 2));
  }
  Prng prng(stride);
  for (int round = 0; round < 12; ++round) {
    const uint64_t offset = prng.below(100) * 512;
    const uint64_t length = (kBlocks - 13) * kBlockSize - prng.below(300) * 512;
    const auto bytes = random_bytes(prng, length);
    const auto written = write_directly(file, offset, bytes, kNow);
    REQUIRE(what(written) == "ok");
    REQUIRE(*written == length);
    overlay(model, offset, bytes);
    REQUIRE((read_all(file, model.size()) == model));
  }
  CHECK(f.attributes(0).block_count == kBlocks);
  CHECK(f.check_items() == "");
  f.reopen();
  CHECK((read_all(*f.files[0], model.size()) == model));
}

TEST_CASE("abandoned, a direct write in flight is answered", "[data][direct]") {
  DataFixture f;
  FileData& file = f.make_file();
  f.device.close(f.data_blocks());
  DirectWriting writing(file, 0, blocks(1, 1), kNow);
  f.context->abandon();
  f.device.open();
  CHECK(writing.wait().error().code() == ErrorCode::shut_down);
  DirectWriting late(file, 0, blocks(1, 1), kNow);
  CHECK(late.begun().error().code() == ErrorCode::shut_down);
}

// Memory of a part that has ended may be a later one's.
TEST_CASE("parts of a direct write end in their order, wherever they are in memory", "[data]") {
  OrderedIo first(OrderedExtent(0, 1)), second(OrderedExtent(1, 1)), third(OrderedExtent(2, 1));
  OrderedIo& again = first;
  DirectParts parts;
  parts.add(first);
  parts.add(second);
  REQUIRE(parts.landed(first));
  CHECK(parts.ended({}) == nullptr);
  parts.add_behind(second, again);
  parts.add_behind(again, third);
  CHECK_FALSE(parts.landed(third));
  CHECK_FALSE(parts.landed(again));
  CHECK(parts.landed(second));
  CHECK(parts.ended({}) == &again);
  CHECK(parts.ended({}) == &third);
  CHECK(parts.ended({}) == nullptr);
  CHECK(parts.over());
}
