// SPDX-License-Identifier: GPL-2.0-or-later
// The devices that wrap another: faulty and verifying.
#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "base/sync.h"
#include "device/faulty_device.h"
#include "device/memory_device.h"
#include "device/verifying_device.h"

using namespace stablefs;

namespace {

AlignedBuffer filled(unsigned char value, size_t blocks = 1) {
  AlignedBuffer buffer(blocks * kBlockSize);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{value});
  return buffer;
}

ErrorCode code(const Status& status) {
  REQUIRE_FALSE(status.ok());
  return status.error().code();
}

size_t blocks_equal_to(const MemoryImage& image, unsigned char value) {
  size_t count = 0;
  const AlignedBuffer wanted = filled(value);
  image.for_each_populated({Lba(0), image.block_count()}, [&](Lba lba) {
    count += std::memcmp(image.page(lba)->data(), wanted.data(), kBlockSize) == 0;
  });
  return count;
}

// A guarded write whose memory is in two parts.
struct GuardedWrite {
  AlignedBuffer first, second;
  std::vector<Tuple> tuples;
  std::vector<iovec> memory;
  DeviceRequest request;
  std::optional<Status> status;
  uint64_t blocks_done = 0;

  GuardedWrite(Lba lba, Interval interval) : first(filled(1, 2)), second(filled(2, 1)) {
    memory = {{first.data(), first.size()}, {second.data(), second.size()}};
    const size_t per_block = tuples_per_block(interval);
    tuples.resize(3 * per_block);
    generate_tuples(first.span(), lba, interval, 7, std::span(tuples).first(2 * per_block));
    generate_tuples(second.span(), lba + 2, interval, 7, std::span(tuples).last(per_block));
    request.op = DeviceOp::write;
    request.lba = lba;
    request.length_blocks = 3;
    request.memory = memory;
    request.tuples = tuples;
    request.interval = interval;
    request.complete = [this](Status s, uint64_t done) {
      status = std::move(s);
      blocks_done = done;
    };
  }
};

const Interval kIntervals[] = {Interval::block_4096, Interval::sector_512};

}  // namespace

TEST_CASE("the Nth request of a class fails, once") {
  MemoryDevice memory(100);
  FaultyDevice device(memory, {1, {{.kind = FaultKind::fail, .op = DeviceOp::write, .first = 3}}});
  AlignedBuffer block = filled(1);
  for (uint64_t i = 1; i <= 5; ++i) {
    REQUIRE(device.read(Lba(0), AlignedBuffer(kBlockSize).span()).ok());
    CHECK(device.write(Lba(i), block.span()).ok() == (i != 3));
  }
  CHECK(device.faults() == 1);
  CHECK(device.requests() == 10);
  CHECK(device.counters().errors == 1);
  CHECK(blocks_equal_to(memory.image(), 1) == 4);
}

TEST_CASE("every operation can be made to fail with its own error") {
  MemoryDevice memory(100);
  FaultyDevice device(memory, {1, {{.kind = FaultKind::fail, .times = UINT64_MAX}}});
  AlignedBuffer block(kBlockSize);
  CHECK(code(device.read(Lba(0), block.span())) == ErrorCode::device_read);
  CHECK(code(device.write(Lba(0), block.span())) == ErrorCode::device_write);
  CHECK(code(device.flush()) == ErrorCode::device_flush);
  CHECK(code(device.discard({Lba(0), 1})) == ErrorCode::device_discard);
  device.set_plan({});
  CHECK(device.flush().ok());
}

TEST_CASE("a rule with a range strikes only requests that touch it") {
  MemoryDevice memory(100);
  FaultyDevice device(
      memory,
      {1, {{.kind = FaultKind::fail, .range = BlockRange{Lba(10), 2}, .times = UINT64_MAX}}});
  AlignedBuffer two = filled(1, 2);
  CHECK(device.write(Lba(8), two.span()).ok());
  CHECK_FALSE(device.write(Lba(9), two.span()).ok());
  CHECK_FALSE(device.write(Lba(11), two.span()).ok());
  CHECK(device.write(Lba(12), two.span()).ok());
  CHECK(device.flush().ok());
}

TEST_CASE("a write that fails after it was carried out has changed the device") {
  MemoryDevice memory(100);
  FaultyDevice device(memory, {1, {{.kind = FaultKind::fail_after}}});
  CHECK_FALSE(device.write(Lba(1), filled(5).span()).ok());
  CHECK(blocks_equal_to(memory.image(), 5) == 1);
}

TEST_CASE("a short transfer says how much it did and did no more") {
  MemoryDevice memory(100);
  FaultyDevice device(memory, {3, {{.kind = FaultKind::short_transfer, .times = UINT64_MAX}}});
  for (int i = 0; i < 20; ++i) {
    GuardedWrite write(Lba(10), Interval::block_4096);
    device.submit(write.request);
    REQUIRE(write.status);
    CHECK(write.status->ok());
    CHECK(write.blocks_done < 3);
    CHECK(memory.image().populated_blocks() == write.blocks_done);
    memory.discard({Lba(0), 100}).value();
  }
  CHECK(code(device.write(Lba(0), filled(1, 8).span())) == ErrorCode::device_short);
}

TEST_CASE("a corrupted read differs in exactly one bit and the device does not") {
  MemoryDevice memory(100);
  REQUIRE(memory.write(Lba(0), filled(0x55, 4).span()).ok());
  FaultyDevice device(memory, {9, {{.kind = FaultKind::corrupt_read}}});
  AlignedBuffer out(4 * kBlockSize);
  REQUIRE(device.read(Lba(0), out.span()).ok());
  int flipped = 0;
  for (std::byte b : out.span()) flipped += __builtin_popcount(std::to_integer<unsigned>(b) ^ 0x55);
  CHECK(flipped == 1);
  REQUIRE(device.read(Lba(0), out.span()).ok());  // once only
  const AlignedBuffer expected = filled(0x55, 4);
  CHECK(std::memcmp(out.data(), expected.data(), out.size()) == 0);
}

TEST_CASE("a misdirected write lands elsewhere, a lost one nowhere") {
  MemoryDevice memory(1000);
  FaultyDevice device(memory, {2,
                               {{.kind = FaultKind::misdirect_write},
                                {.kind = FaultKind::lose_write, .op = DeviceOp::write}}});
  REQUIRE(device.write(Lba(1), filled(1).span()).ok());
  CHECK(memory.image().page(Lba(1)) == nullptr);
  CHECK(blocks_equal_to(memory.image(), 1) == 1);
  REQUIRE(device.write(Lba(2), filled(2).span()).ok());
  CHECK(blocks_equal_to(memory.image(), 2) == 0);
  REQUIRE(device.write(Lba(2), filled(2).span()).ok());
  CHECK(blocks_equal_to(memory.image(), 2) == 1);
}

TEST_CASE("a lying flush leaves writes volatile") {
  MemoryDevice memory(100);
  FaultyDevice device(memory, {1, {{.kind = FaultKind::lie_flush}}});
  REQUIRE(device.write(Lba(1), filled(1).span()).ok());
  REQUIRE(device.flush().ok());
  CHECK(memory.durable_image().populated_blocks() == 0);
  REQUIRE(device.flush().ok());
  CHECK(memory.durable_image().populated_blocks() == 1);
}

TEST_CASE("the same plan gives the same faults, another seed others") {
  const auto faults_of = [](uint64_t seed) {
    MemoryDevice memory(1000);
    FaultyDevice device(memory,
                        {seed, {{.kind = FaultKind::fail, .times = UINT64_MAX, .one_in = 4}}});
    std::vector<bool> failed;
    AlignedBuffer block = filled(1);
    for (uint64_t i = 0; i < 200; ++i) failed.push_back(!device.write(Lba(i), block.span()).ok());
    return failed;
  };
  CHECK(faults_of(1) == faults_of(1));
  CHECK(faults_of(1) != faults_of(2));
}

TEST_CASE("a delayed request never waits for others that do not come") {
  MemoryDevice memory(100, {.asynchronous = true});
  FaultyDevice device(memory, {1,
                               {{.kind = FaultKind::delay,
                                 .op = DeviceOp::write,
                                 .times = UINT64_MAX,
                                 .parameter = 1000}}});
  REQUIRE(device.write(Lba(1), filled(1).span()).ok());
  CHECK(blocks_equal_to(memory.image(), 1) == 1);
}

TEST_CASE("a delayed request is overtaken by as many as the rule says") {
  struct Manual final : BlockDevice {
    std::vector<DeviceRequest*> arrived;
    void submit(DeviceRequest& request) override { arrived.push_back(&request); }
    uint64_t block_count() const override { return 100; }
    std::string name() const override { return "manual"; }
    bool read_only() const override { return false; }
  } manual;
  FaultyDevice device(manual, {1, {{.kind = FaultKind::delay, .first = 2, .parameter = 2}}});
  AlignedBuffer buffer = filled(1);
  const iovec part{buffer.data(), kBlockSize};
  DeviceRequest requests[4];
  int completed = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    requests[i].op = DeviceOp::write;
    requests[i].lba = Lba(i);
    requests[i].length_blocks = 1;
    requests[i].memory = {&part, 1};
    requests[i].complete = [&completed](Status, uint64_t) { ++completed; };
    device.submit(requests[i]);
  }
  std::vector<uint64_t> order;
  for (DeviceRequest* request : manual.arrived) order.push_back(request->lba.value);
  CHECK(order == std::vector<uint64_t>{0, 2, 3, 1});
  for (DeviceRequest* request : manual.arrived) {
    const auto complete = std::move(request->complete);
    complete({}, 1);
  }
  CHECK(completed == 4);
}

TEST_CASE("a stable guarded write passes the verifying device") {
  for (Interval interval : kIntervals) {
    MemoryDevice memory(100);
    VerifyingDevice device(memory);
    GuardedWrite write(Lba(5), interval);
    device.submit(write.request);
    REQUIRE(write.status);
    CHECK(write.status->ok());
    CHECK(write.blocks_done == 3);
    CHECK(device.verifying_counters().checked == 1);
    CHECK(device.verifying_counters().mismatches == 0);
    CHECK(memory.image().populated_blocks() == 3);
  }
}

TEST_CASE("a buffer rewritten before the transfer is a protection error and is not written") {
  for (Interval interval : kIntervals) {
    MemoryDevice memory(100);
    GuardedWrite write(Lba(5), interval);
    VerifyingDevice device(memory, {.before_dma = [&write](const DeviceRequest&) {
                             write.second.data()[100] ^= std::byte{1};
                           }});
    device.submit(write.request);
    REQUIRE(write.status);
    CHECK(code(*write.status) == ErrorCode::device_protection);
    CHECK(write.status->error().message().find("guard of block 7") != std::string::npos);
    CHECK(device.verifying_counters().mismatches == 1);
    CHECK(memory.image().populated_blocks() == 0);
  }
}

TEST_CASE("a buffer rewritten during the transfer is a protection error") {
  // The device below rewrites the memory after it took the data, as a careless owner would.
  struct Rewriting final : BlockDevice {
    MemoryDevice memory{100};
    void submit(DeviceRequest& request) override {
      auto complete = std::move(request.complete);
      request.complete = [&request, complete](Status status, uint64_t done) {
        static_cast<std::byte*>(request.memory[0].iov_base)[0] ^= std::byte{0x80};
        complete(std::move(status), done);
      };
      memory.submit(request);
    }
    uint64_t block_count() const override { return 100; }
    std::string name() const override { return "rewriting"; }
    bool read_only() const override { return false; }
  } rewriting;
  VerifyingDevice device(rewriting);
  GuardedWrite guarded(Lba(5), Interval::block_4096);
  device.submit(guarded.request);
  REQUIRE(guarded.status);
  CHECK(code(*guarded.status) == ErrorCode::device_protection);
  GuardedWrite plain(Lba(5), Interval::block_4096);
  plain.request.tuples = {};
  device.submit(plain.request);
  REQUIRE(plain.status);
  CHECK(code(*plain.status) == ErrorCode::device_protection);
  CHECK(device.verifying_counters().mismatches == 2);
}

TEST_CASE("tuples of another address or with the escape tag are refused") {
  MemoryDevice memory(100);
  VerifyingDevice device(memory);
  GuardedWrite elsewhere(Lba(5), Interval::block_4096);
  elsewhere.request.lba = Lba(6);
  device.submit(elsewhere.request);
  CHECK(code(*elsewhere.status) == ErrorCode::device_protection);
  GuardedWrite escape(Lba(5), Interval::block_4096);
  escape.tuples[1].app_tag = kEscapeAppTag;
  device.submit(escape.request);
  CHECK(code(*escape.status) == ErrorCode::device_protection);
  GuardedWrite missing(Lba(5), Interval::block_4096);
  missing.request.tuples = missing.request.tuples.first(2);
  device.submit(missing.request);
  CHECK(code(*missing.status) == ErrorCode::invalid_argument);
}

TEST_CASE("sampling checks about one write in N, or none") {
  MemoryDevice memory(100);
  VerifyingDevice some(memory, {.sample_one_in = 10});
  VerifyingDevice none(memory, {.sample_one_in = 0});
  AlignedBuffer block = filled(1);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(some.write(Lba(1), block.span()).ok());
    REQUIRE(none.write(Lba(1), block.span()).ok());
  }
  CHECK(some.verifying_counters().checked > 50);
  CHECK(some.verifying_counters().checked < 200);
  CHECK(none.verifying_counters().checked == 0);
}

TEST_CASE("a misdirected guarded write is caught by a verifying device below") {
  MemoryDevice memory(1000);
  VerifyingDevice target(memory);
  FaultyDevice device(target, {5, {{.kind = FaultKind::misdirect_write}}});
  GuardedWrite write(Lba(5), Interval::block_4096);
  device.submit(write.request);
  REQUIRE(write.status);
  CHECK(code(*write.status) == ErrorCode::device_protection);
}
