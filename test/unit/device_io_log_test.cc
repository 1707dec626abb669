// SPDX-License-Identifier: GPL-2.0-or-later
// The recording device, its file format, and crash states replayed from a log.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/prng.h"
#include "device/crash_images.h"
#include "device/io_log.h"
#include "device/io_replay.h"
#include "device/memory_device.h"
#include "device/recording_device.h"

using namespace stablefs;

namespace {

AlignedBuffer filled(unsigned char value, size_t blocks = 1) {
  AlignedBuffer buffer(blocks * kBlockSize);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{value});
  return buffer;
}

void run_workload(RecordingDevice& device) {
  REQUIRE(device.write(Lba(1), filled(1).span()).ok());
  REQUIRE(device.write(Lba(2), filled(2, 2).span(), true).ok());
  REQUIRE(device.flush().ok());
  device.mark("synced");
  REQUIRE(device.write(Lba(1), filled(3).span()).ok());
  REQUIRE(device.discard({Lba(2), 1}).ok());
  AlignedBuffer out(kBlockSize);
  REQUIRE(device.read(Lba(1), out.span()).ok());
}

IoLog record_workload() {
  MemoryDevice memory(100);
  MemoryIoLog sink;
  RecordingDevice device(memory, sink);
  run_workload(device);
  return {100, sink.events()};
}

// The byte the block begins with.
int first_byte(const MemoryImage& image, uint64_t lba) {
  const auto page = image.page(Lba(lba));
  return page ? static_cast<int>((*page)[0]) : 0;
}

bool same(const IoLog& a, const IoLog& b) {
  return serialise_io_log(a) == serialise_io_log(b);
}

}  // namespace

TEST_CASE("a recording has every request with its data, in order, and what completed") {
  const IoLog log = record_workload();
  REQUIRE(log.events.size() == 13);
  CHECK(log.events[0].kind == IoEventKind::submit);
  CHECK(log.events[0].payload.size() == kBlockSize);
  CHECK(log.events[0].payload[5] == std::byte{1});
  CHECK(log.events[1].kind == IoEventKind::complete);
  CHECK(log.events[1].request == log.events[0].request);
  CHECK(log.events[2].fua);
  CHECK(log.events[2].lba == Lba(2));
  CHECK(log.events[2].length_blocks == 2);
  CHECK(log.events[4].op == DeviceOp::flush);
  CHECK(log.events[6].kind == IoEventKind::mark);
  CHECK(log.events[6].text() == "synced");
  CHECK(log.events[9].op == DeviceOp::discard);
  CHECK(log.events[11].op == DeviceOp::read);
  CHECK(log.events[11].payload.empty());
}

TEST_CASE("a log survives serialisation") {
  const IoLog log = record_workload();
  const auto parsed = parse_io_log(serialise_io_log(log));
  REQUIRE(parsed.ok());
  CHECK(parsed->block_count == 100);
  CHECK(same(*parsed, log));
}

TEST_CASE("a log written to a file reads back") {
  std::string name = (std::filesystem::temp_directory_path() / "stablefs-log-XXXXXX").string();
  const int fd = mkstemp(name.data());
  REQUIRE(fd >= 0);
  {
    MemoryDevice memory(100);
    FileIoLog sink(fd, 100);
    RecordingDevice device(memory, sink);
    run_workload(device);
    CHECK(sink.status().ok());
  }
  std::ifstream file(name, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  unlink(name.c_str());
  const auto parsed = parse_io_log(std::as_bytes(std::span(bytes.data(), bytes.size())));
  REQUIRE(parsed.ok());
  CHECK(same(*parsed, record_workload()));
}

TEST_CASE("a log cut off anywhere is read up to its last whole event, a damaged one refused") {
  const IoLog log = record_workload();
  const auto bytes = serialise_io_log(log);
  size_t events_before = 0;
  for (size_t length = 24; length < bytes.size(); length += 97) {
    const auto parsed = parse_io_log(std::span(bytes).first(length));
    REQUIRE(parsed.ok());
    CHECK(parsed->events.size() >= events_before);
    CHECK(parsed->events.size() < log.events.size());
    events_before = parsed->events.size();
  }
  for (size_t i = 0; i < 24; ++i) CHECK_FALSE(parse_io_log(std::span(bytes).first(i)).ok());
  // Any changed byte is noticed: as a refusal, or (a longer payload length) as a cut.
  for (size_t i = 0; i < bytes.size(); i += i < 80 ? 1 : 61) {
    auto damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    const auto parsed = parse_io_log(damaged);
    if (parsed.ok()) {
      const bool noticed = parsed->events.size() < log.events.size() || parsed->block_count != 100;
      CHECK(noticed);
    }
  }
}

TEST_CASE("a replayed log gives the device's own crash states at every event") {
  const IoLog log = record_workload();
  const auto at = [&log](size_t events) { return replay_io_log(log, events, MemoryImage(100)); };
  CHECK(first_byte(at(0).current(), 1) == 0);
  // Submitted but not completed: may have arrived.
  CHECK(at(1).events().size() == 1);
  CHECK(first_byte(at(1).current(), 1) == 1);
  CHECK(first_byte(at(1).durable(), 1) == 0);
  // The FUA write is durable once completed, its predecessor is not.
  CHECK(first_byte(at(3).durable(), 2) == 0);
  CHECK(first_byte(at(4).durable(), 2) == 2);
  CHECK(first_byte(at(4).durable(), 1) == 0);
  // The flush counts when it has completed.
  CHECK(at(5).events().size() == 1);
  CHECK(first_byte(at(6).durable(), 1) == 1);
  CHECK(at(6).events().empty());
  const VolatileCache end = at(log.events.size());
  CHECK(end.events().size() == 2);
  CHECK(first_byte(end.durable(), 1) == 1);
  CHECK(first_byte(end.current(), 1) == 3);
  CHECK(first_byte(end.current(), 2) == 0);
  CHECK(first_byte(end.current(), 3) == 2);
}

TEST_CASE("a flush in a log covers only writes completed before it was submitted") {
  IoLog log{10, {}};
  const auto event = [](IoEventKind kind, DeviceOp op, uint64_t request, uint64_t lba) {
    IoEvent e;
    e.kind = kind;
    e.op = op;
    e.request = request;
    e.lba = Lba(lba);
    e.length_blocks = op == DeviceOp::write ? 1 : 0;
    if (kind == IoEventKind::submit && op == DeviceOp::write) {
      e.payload.assign(kBlockSize, std::byte{9});
    }
    return e;
  };
  log.events = {event(IoEventKind::submit, DeviceOp::write, 1, 1),
                event(IoEventKind::submit, DeviceOp::write, 2, 2),
                event(IoEventKind::complete, DeviceOp::write, 1, 1),
                event(IoEventKind::submit, DeviceOp::flush, 3, 0),
                event(IoEventKind::complete, DeviceOp::write, 2, 2),
                event(IoEventKind::complete, DeviceOp::flush, 3, 0)};
  const VolatileCache end = replay_io_log(log, log.events.size(), MemoryImage(10));
  CHECK(first_byte(end.durable(), 1) == 9);
  CHECK(first_byte(end.durable(), 2) == 0);
  CHECK(end.events().size() == 1);
}

namespace {

IoEvent base_event(uint64_t lba, size_t blocks, unsigned char value) {
  IoEvent event;
  event.kind = IoEventKind::base;
  event.op = DeviceOp::write;
  event.lba = Lba(lba);
  event.length_blocks = blocks;
  event.payload.assign(blocks * kBlockSize, std::byte{value});
  return event;
}

// An event as no recorder makes it: fields that belong together do so by chance only.
IoEvent odd_event(Prng& prng, uint64_t block_count) {
  constexpr DeviceOp kOps[] = {DeviceOp::read, DeviceOp::write, DeviceOp::flush, DeviceOp::discard,
                               DeviceOp::write_zeroes};
  IoEvent event;
  event.kind = static_cast<IoEventKind>(1 + prng.below(prng.chance(20) ? 4 : 3));
  event.op = kOps[prng.below(5)];
  event.fua = prng.chance(4) && (event.op == DeviceOp::write || prng.chance(50));
  event.failed = prng.chance(5);
  event.request = prng.below(6);
  event.lba = Lba(prng.chance(3) ? prng.below(8) : prng.below(block_count));
  const uint64_t length_max = block_count - event.lba.value + (prng.chance(200) ? 1 : 0);
  const bool data = event.op == DeviceOp::write && event.kind == IoEventKind::submit;
  event.length_blocks = std::min(length_max, data ? prng.below(4) : prng.next() >> 12);
  if (data) event.payload.resize(event.length_blocks * kBlockSize, std::byte{7});
  if (event.kind == IoEventKind::mark) event.payload.resize(prng.below(9), std::byte{0});
  return event;
}

}  // namespace

TEST_CASE("contents from before the recording come first, and back") {
  IoLog log = record_workload();
  const IoLog without = log;
  log.events.insert(log.events.begin(), {base_event(3, 2, 9), base_event(50, 1, 8)});
  const auto parsed = parse_io_log(serialise_io_log(log));
  REQUIRE(parsed.ok());
  CHECK(same(*parsed, log));
  const MemoryImage base = base_of(*parsed);
  CHECK(base.populated_blocks() == 3);
  CHECK(first_byte(base, 4) == 9);
  CHECK(first_byte(base, 50) == 8);
  CHECK(base_of(without).populated_blocks() == 0);
  std::rotate(log.events.begin(), log.events.begin() + 1, log.events.begin() + 4);
  CHECK_FALSE(parse_io_log(serialise_io_log(log)).ok());
}

TEST_CASE("records with impossible fields are refused though their checksums are right") {
  const auto refused = [](auto change) {
    IoLog log = record_workload();
    change(log.events);
    return !parse_io_log(serialise_io_log(log)).ok();
  };
  using Events = std::vector<IoEvent>;
  CHECK_FALSE(refused([](Events&) {}));
  CHECK(refused([](Events& events) { events[4].fua = true; }));          // of a flush
  CHECK(refused([](Events& events) { events[0].lba = Lba(101); }));      // beyond the device
  CHECK(refused([](Events& events) { events[9].length_blocks = 99; }));  // of a discard
  CHECK(refused([](Events& events) { events[9].length_blocks = UINT64_MAX; }));
  CHECK(refused([](Events& events) { events[0].payload.resize(100); }));
  CHECK(refused([](Events& events) { events[1].payload.resize(4096); }));  // of a completion
  CHECK(refused([](Events& events) { events[0].kind = static_cast<IoEventKind>(5); }));
  CHECK(refused([](Events& events) { events[0].op = static_cast<DeviceOp>(9); }));
}

TEST_CASE("crash images of logs that make no sense come without harm, or the log is refused") {
  int accepted = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    Prng prng(seed);
    IoLog log;
    log.block_count = prng.chance(2) ? 64 : UINT64_MAX / kBlockSize;
    for (uint64_t i = prng.below(40); i > 0; --i) {
      log.events.push_back(odd_event(prng, log.block_count));
    }
    const auto bytes = serialise_io_log(log);
    const size_t length = prng.chance(2) ? bytes.size() : prng.below(bytes.size() + 1);
    const auto parsed = parse_io_log(std::span(bytes).first(length));
    if (!parsed.ok()) continue;
    ++accepted;
    CrashImages images(*parsed, base_of(*parsed), {300, seed, prng.chance(2)});
    while (const auto state = images.next()) CHECK_FALSE(state->describe().empty());
  }
  CHECK(accepted > 100);
}
