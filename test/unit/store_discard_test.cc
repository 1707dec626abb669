// SPDX-License-Identifier: GPL-2.0-or-later
// Discarding: only what is durably free, never what is in use, and nobody waits or fails for it.
#include <catch2/catch.hpp>
#include <set>

#include "base/log.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

// Sees discards, and may hold them back.
class DiscardWatch final : public BlockDevice {
 public:
  explicit DiscardWatch(BlockDevice& inner) : inner_(inner) {}

  void submit(DeviceRequest& request) override {
    if (request.op == DeviceOp::discard) {
      MutexLock lock(mutex_);
      discarded.push_back({request.lba, request.length_blocks});
      if (holding) {
        held_.push_back(&request);
        return;
      }
    }
    if (request.op == DeviceOp::write) {
      MutexLock lock(mutex_);
      for (const DeviceRequest* held : held_) {
        const Lba end = held->lba + held->length_blocks;
        written_into += request.lba < end && held->lba < request.lba + request.length_blocks;
      }
    }
    inner_.submit(request);
  }
  void release() {
    std::vector<DeviceRequest*> held;
    {
      MutexLock lock(mutex_);
      holding = false;
      held.swap(held_);
    }
    for (DeviceRequest* request : held) inner_.submit(*request);
  }
  size_t held() {
    MutexLock lock(mutex_);
    return held_.size();
  }
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }

  std::vector<BlockRange> discarded;
  std::atomic<bool> holding{false};
  uint64_t written_into = 0;

 private:
  BlockDevice& inner_;
  Mutex mutex_{LockRank::device, "discard watch"};
  std::vector<DeviceRequest*> held_ FS_GUARDED_BY(mutex_);
};

struct Fixture {
  explicit Fixture(bool background = true, uint64_t blocks = 8192)
      : memory(blocks), faulty(memory, {}), device(faulty) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    REQUIRE(format_device(memory, format).ok());
    StoreOptions options;
    options.clock = &clock;
    options.logger = &logger;
    options.background = background;
    options.discard = true;
    options.discard_delay_ns = kNsPerMs;
    options.commit_interval_ns = 3600 * kNsPerSecond;
    options.new_epoch = [this](uint8_t epoch[16]) { epoch[0] = ++epochs; };
    auto opened = Store::open(device, options);
    REQUIRE(opened.ok());
    store = std::move(opened).value();
  }
  BlockRange allocate(uint64_t blocks) {
    auto space = store->reserve_space(blocks);
    REQUIRE(space.ok());
    const auto range = store->allocate(*space, blocks, Lba(0));
    REQUIRE(range.ok());
    REQUIRE(range->length_blocks == blocks);
    std::vector<std::byte> bytes(blocks * kBlockSize, std::byte{7});
    AlignedBuffer buffer(bytes.size());
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
    REQUIRE(device.write(range->start, buffer.span()).ok());
    Transaction transaction;
    transaction.allocate(*range);
    REQUIRE(store->commit(transaction, false).ok());
    return *range;
  }
  Sequence free(BlockRange range) {
    Transaction transaction;
    transaction.free(range);
    const auto sequence = store->commit(transaction, false);
    REQUIRE(sequence.ok());
    return *sequence;
  }
  bool is_zero(Lba lba) {
    AlignedBuffer block(kBlockSize);
    REQUIRE(memory.read(lba, block.span()).ok());
    return std::all_of(block.span().begin(), block.span().end(),
                       [](std::byte byte) { return byte == std::byte{0}; });
  }
  template <class Condition>
  void wait_until(Condition condition) {
    const uint64_t deadline_ns = clock.monotonic_ns() + 20 * kNsPerSecond;
    while (!condition()) REQUIRE(clock.monotonic_ns() < deadline_ns);
  }

  SystemClock clock;
  NullLogger logger;
  MemoryDevice memory;
  FaultyDevice faulty;
  DiscardWatch device;
  uint8_t epochs = 0;
  std::unique_ptr<Store> store;
};

}  // namespace

TEST_CASE("what came free is discarded once its freeing is durable", "[store]") {
  Fixture f;
  const BlockRange range = f.allocate(100);
  const BlockRange kept = f.allocate(100);
  const Sequence freed = f.free(range);
  const uint64_t until_ns = f.clock.monotonic_ns() + 50 * kNsPerMs;
  while (f.clock.monotonic_ns() < until_ns) CHECK(f.device.discarded.empty());
  CHECK_FALSE(f.is_zero(range.start));
  REQUIRE(f.store->sync(freed).ok());
  f.wait_until([&] { return f.store->counters().discarded_blocks.load() >= 100; });
  for (uint64_t i = 0; i < 100; ++i) CHECK(f.is_zero(range.start + i));
  for (uint64_t i = 0; i < 100; ++i) CHECK_FALSE(f.is_zero(kept.start + i));
  REQUIRE(f.store->close().ok());
}

TEST_CASE("a reader's pin keeps blocks from being discarded", "[store]") {
  Fixture f(false);
  const BlockRange range = f.allocate(100);
  ReadPin pin = f.store->pin();
  REQUIRE(f.store->sync(f.free(range)).ok());
  REQUIRE(f.store->discard_free({Lba(0), 8192}, 1).ok());
  CHECK_FALSE(f.is_zero(range.start));
  pin.release();
  REQUIRE(f.store->discard_free({Lba(0), 8192}, 1).ok());
  CHECK(f.is_zero(range.start));
  CHECK(f.is_zero(range.end() - 1));
  REQUIRE(f.store->close().ok());
}

TEST_CASE("trimming tells of all free blocks and of no other", "[store]") {
  Fixture f(false);
  const BlockRange one = f.allocate(10);
  const BlockRange two = f.allocate(10);
  REQUIRE(f.store->sync(f.free({one.start + 2, 3})).ok());
  const uint64_t free_blocks = f.store->space_usage().free_blocks;
  const auto trimmed = f.store->discard_free({Lba(0), 8192}, 1);
  REQUIRE(trimmed.ok());
  CHECK(*trimmed >= free_blocks);
  std::set<uint64_t> discarded;
  for (const BlockRange& range : f.device.discarded) {
    for (uint64_t i = 0; i < range.length_blocks; ++i) {
      CHECK(discarded.insert(range.start.value + i).second);
    }
  }
  CHECK(discarded.size() == *trimmed);
  for (uint64_t lba = 0; lba < 8192; ++lba) {
    if (discarded.contains(lba) == f.store->is_allocated(Lba(lba)).value()) FAIL(lba);
  }
  CHECK_FALSE(f.is_zero(two.start));
  // Only runs that are long enough.
  f.device.discarded.clear();
  REQUIRE(f.store->discard_free({one.start, 10}, 4).ok());
  CHECK(f.device.discarded.empty());
  REQUIRE(f.store->discard_free({one.start, 10}, 3).ok());
  REQUIRE(f.device.discarded.size() == 1);
  CHECK(f.device.discarded[0] == BlockRange{one.start + 2, 3});
  REQUIRE(f.store->close().ok());
}

TEST_CASE("nobody is given blocks that are being discarded", "[store]") {
  Fixture f;
  const BlockRange range = f.allocate(1000);
  f.device.holding = true;
  REQUIRE(f.store->sync(f.free(range)).ok());
  f.wait_until([&] { return f.device.held() > 0; });
  CHECK(f.store->gauges().blocks_to_discard >= 1000);
  // Free all the same: space is not lost by this.
  const uint64_t available = f.store->space_usage().available_blocks;
  std::vector<BlockRange> taken;
  for (int i = 0; i < 20; ++i) taken.push_back(f.allocate(100));
  for (const BlockRange& other : taken) {
    CHECK((other.start >= range.end() || range.start >= other.end()));
  }
  REQUIRE(f.store->checkpoint().ok());
  CHECK(f.device.written_into == 0);
  // Who needs just those waits for the device.
  std::atomic<bool> done{false};
  Thread hungry("hungry", [&] {
    const uint64_t wanted = available * 16 / 17 - 2100;
    auto space = f.store->reserve_space(wanted);
    FS_ASSERT(space.ok());
    for (uint64_t left = wanted; left > 0;) {
      const auto got = f.store->allocate(*space, left, Lba(0));
      FS_ASSERT(got.ok());
      Transaction transaction;
      transaction.allocate(*got);
      FS_ASSERT(f.store->commit(transaction, false).ok());
      left -= got->length_blocks;
    }
    done = true;
  });
  f.device.release();
  hungry.join();
  CHECK(done);
  REQUIRE(f.store->close().ok());
}

TEST_CASE("a device that fails to discard is only counted", "[store]") {
  Fixture f(false);
  const BlockRange range = f.allocate(100);
  REQUIRE(f.store->sync(f.free(range)).ok());
  f.faulty.set_plan({.rules = {{.op = DeviceOp::discard, .times = UINT64_MAX}}});
  const auto trimmed = f.store->discard_free({Lba(0), 8192}, 1);
  REQUIRE(trimmed.ok());
  CHECK(*trimmed == 0);
  CHECK(f.store->counters().discard_errors.load() > 0);
  CHECK_FALSE(f.store->failure());
  CHECK(f.allocate(1000).length_blocks == 1000);
  REQUIRE(f.store->close().ok());
}

TEST_CASE("unmounting discards what is still to be told", "[store]") {
  Fixture f;
  const BlockRange range = f.allocate(100);
  REQUIRE(f.store->sync(f.free(range)).ok());
  REQUIRE(f.store->close().ok());
  CHECK(f.is_zero(range.start));
  CHECK(f.is_zero(range.end() - 1));
}
