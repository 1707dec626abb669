// SPDX-License-Identifier: GPL-2.0-or-later
// The store on a memory device: durability, crashes, space, errors.
#include "store/store.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "base/log.h"
#include "base/prng.h"
#include "crash_points.h"
#include "device/memory_device.h"
#include "format/superblock.h"
#include "format/xattr.h"

using namespace stablefs;

namespace {

using Value = std::vector<std::byte>;
using Model = std::map<Key, Value>;

struct Fixture {
  SystemClock clock;
  NullLogger logger;

  StoreOptions options(bool background = false) {
    StoreOptions o;
    o.clock = &clock;
    o.logger = &logger;
    o.background = background;
    o.new_epoch = [this](uint8_t epoch[16]) {
      for (int i = 0; i < 16; ++i) epoch[i] = static_cast<uint8_t>(++epochs * 7 + i);
    };
    return o;
  }
  std::unique_ptr<Store> open(BlockDevice& device, bool background = false) {
    auto store = Store::open(device, options(background));
    if (!store.ok()) FAIL(store.error().message());
    return std::move(store).value();
  }
  int epochs = 0;
};

FormatOptions format_options(uint8_t copies = 1) {
  FormatOptions o;
  o.uuid = {1, 2, 3};
  o.epoch = {9, 9, 9};
  o.copies = copies;
  return o;
}

// Chunks of extended attributes, but for the first, may hold any bytes: good for testing the store
// alone.
Key any_key(Ino ino, uint64_t n) {
  return Key(ino, ItemKind::xattr, n << kXattrChunkBits | 1);
}
Key key_of(uint64_t n) {
  return any_key(Ino(2 + n % 50), n);
}

Model read_all(Store& store) {
  Model all;
  auto items = store.scan(Key(2, 0, 0), Key::maximum(), SIZE_MAX);
  REQUIRE(items.ok());
  for (Item& item : items.value()) all[item.key] = item.value;
  return all;
}

Value random_value(Prng& prng, size_t max) {
  Value value(1 + prng.below(max));
  for (std::byte& b : value) b = static_cast<std::byte>(prng.next());
  return value;
}

Transaction random_transaction(Prng& prng, Model& model, uint64_t keys, size_t max_value) {
  Transaction tx;
  Model added;
  uint64_t count = 1 + prng.below(6);
  for (uint64_t i = 0; i < count; ++i) {
    Key key = key_of(prng.below(keys));
    if (prng.chance(3) && model.count(key)) {
      tx.erase(key);
      model.erase(key);
    } else {
      Value value = random_value(prng, max_value);
      tx.put(key, value);
      model[key] = value;
    }
  }
  return tx;
}

}  // namespace

TEST_CASE("a fresh filesystem opens, closes clean and opens again", "[store]") {
  Fixture f;
  MemoryDevice device(8192);
  REQUIRE(format_device(device, format_options(GENERATE(1, 2))).ok());
  for (int i = 0; i < 3; ++i) {
    auto store = f.open(device);
    auto root = store->get(Key(kRootIno, ItemKind::inode, 0));
    REQUIRE(root.ok());
    REQUIRE(root->has_value());
    REQUIRE(store->close().ok());
    auto superblock = read_superblock(device);
    REQUIRE(superblock.ok());
    REQUIRE(superblock->clean == 1);
  }
}

TEST_CASE("after any crash the store shows a prefix that has everything synced",
          "[store][crash][slow][long]") {
  const uint64_t seed = GENERATE(range(1, 81));
  INFO("seed " << seed);
  Fixture f;
  Prng prng(seed);
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options(seed % 4 == 0 ? 2 : 1)).ok());
  Model model;
  std::vector<Model> history;
  for (int round = 0; round < 6; ++round) {
    auto store = f.open(device);
    REQUIRE(read_all(*store) == model);
    history.assign(1, model);  // history[i]: after i transactions of this mount
    const uint64_t base = store->last_sequence().value;
    uint64_t steps = prng.below(300);
    for (uint64_t i = 0; i < steps; ++i) {
      Transaction tx = random_transaction(prng, model, 1500, prng.chance(5) ? 1000 : 100);
      auto sequence = store->commit(tx, true);
      REQUIRE(sequence.ok());
      REQUIRE(sequence->value == base + history.size());
      history.push_back(model);
      if (prng.chance(20)) REQUIRE(store->sync(*sequence).ok());
      if (prng.chance(60)) REQUIRE(store->checkpoint().ok());
    }
    const uint64_t durable = store->durable_sequence().value;
    const auto policy = static_cast<CrashPolicy>(prng.below(4));
    device.crash(policy, prng);
    store.reset();
    // A crash again and again during recovery changes nothing.
    if (prng.chance(2)) {
      auto again = f.open(device);
      again.reset();
      device.crash(policy, prng);
    }
    auto recovered = f.open(device);
    const uint64_t last = recovered->last_sequence().value;
    REQUIRE(last >= durable);
    REQUIRE(last - base < history.size());
    REQUIRE(read_all(*recovered) == history[last - base]);
    model = history[last - base];
    if (prng.chance(2)) {
      REQUIRE(recovered->close().ok());
    }
  }
}

namespace {

// An item that points at one data block: what an extent is to a file.
struct Pointer {
  le64 lba;
  le32 checksum;
};
Key pointer_key(uint64_t n) {
  return any_key(Ino(500), n);
}
using Pointers = std::map<uint64_t, uint32_t>;  // n -> checksum of its block

Pointer pointer_of(Store& store, uint64_t n) {
  auto value = store.get(pointer_key(n));
  REQUIRE(value.ok());
  REQUIRE(value->has_value());
  Pointer pointer;
  std::memcpy(&pointer, (*value)->data(), sizeof pointer);
  return pointer;
}

// Writes a fresh block and maps it in place of what `n` pointed at; or unmaps it.
void change_pointer(Store& store, MemoryDevice& device, Prng& prng, uint64_t n, Pointers& model) {
  Transaction tx;
  const bool had = model.count(n) != 0;
  if (had) tx.free({Lba(pointer_of(store, n).lba), 1});
  if (had && prng.chance(3)) {
    tx.erase(pointer_key(n));
    model.erase(n);
  } else {
    auto reservation = store.reserve_space(1);
    REQUIRE(reservation.ok());
    auto range = store.allocate(*reservation, 1, Lba(0));
    REQUIRE(range.ok());
    AlignedBuffer block(kBlockSize);
    for (size_t i = 0; i < kBlockSize; i += 8)
      *reinterpret_cast<le64*>(block.data() + i) = prng.next();
    REQUIRE(device.write(range->start, block.span()).ok());
    Pointer pointer{range->start.value, crc32c(0, block.span())};
    uint32_t checksum = pointer.checksum;
    tx.allocate(*range);
    tx.data_checksums(*range, {&checksum, 1});
    tx.put_struct(pointer_key(n), pointer);
    model[n] = checksum;
  }
  REQUIRE(store.commit(tx, false).ok());
}

}  // namespace

TEST_CASE("one flush: no crash leaves a mapping without its data", "[store][crash]") {
  const uint64_t seed = GENERATE(range(1, 121));
  INFO("seed " << seed);
  Fixture f;
  Prng prng(seed);
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options()).ok());
  Pointers model;
  for (int round = 0; round < 5; ++round) {
    auto store = f.open(device);
    std::vector<Pointers> history(1, model);
    const uint64_t base = store->last_sequence().value;
    // Few blocks and many changes, so that freed blocks are reused at once.
    for (uint64_t i = prng.below(60); i-- > 0;) {
      change_pointer(*store, device, prng, prng.below(12), model);
      history.push_back(model);
      if (prng.chance(6)) REQUIRE(store->sync(store->last_sequence()).ok());
      if (prng.chance(30)) REQUIRE(store->checkpoint().ok());
    }
    const uint64_t durable = store->durable_sequence().value;
    device.crash(static_cast<CrashPolicy>(prng.below(4)), prng);
    store.reset();

    auto recovered = f.open(device);
    const uint64_t last = recovered->last_sequence().value;
    REQUIRE(last >= durable);
    REQUIRE(last - base < history.size());
    model = history[last - base];
    for (const auto& [n, checksum] : model) {
      Pointer pointer = pointer_of(*recovered, n);
      REQUIRE(pointer.checksum == checksum);
      AlignedBuffer block(kBlockSize);
      REQUIRE(device.read(Lba(pointer.lba), block.span()).ok());
      REQUIRE(crc32c(0, block.span()) == checksum);
      REQUIRE(recovered->is_allocated(Lba(pointer.lba)).value());
    }
    device.crash(CrashPolicy::drop_all, prng);
  }
}

namespace {

// Passes requests on and takes a crash image before one in `every` of them.
class SnapshotDevice final : public BlockDevice {
 public:
  struct Snapshot {
    MemoryImage image;
    uint64_t acknowledged;  // sequence whose sync had returned
  };
  SnapshotDevice(MemoryDevice& inner, Prng& prng, uint64_t every)
      : inner_(inner), prng_(prng), every_(every) {}
  void submit(DeviceRequest& request) override {
    if (prng_.chance(every_)) {
      auto policy = static_cast<CrashPolicy>(prng_.below(4));
      snapshots.push_back({inner_.crash_image(policy, prng_), acknowledged});
    }
    inner_.submit(request);
  }
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return "snapshots"; }
  bool read_only() const override { return false; }

  uint64_t acknowledged = 0;
  std::vector<Snapshot> snapshots;

 private:
  MemoryDevice& inner_;
  Prng& prng_;
  const uint64_t every_;
};

}  // namespace

TEST_CASE("a crash before any device operation leaves a prefix with its data", "[store][crash]") {
  const uint64_t seed = GENERATE(range(1, 31));
  INFO("seed " << seed);
  Fixture f;
  Prng prng(seed);
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options()).ok());
  SnapshotDevice watched(device, prng, 4);
  Pointers model;
  std::vector<Pointers> history(1, model);
  auto store = f.open(watched);
  const uint64_t base = store->last_sequence().value;
  watched.acknowledged = base;
  for (int i = 0; i < 150; ++i) {
    change_pointer(*store, device, prng, prng.below(12), model);
    history.push_back(model);
    if (prng.chance(4)) {
      REQUIRE(store->sync(store->last_sequence()).ok());
      watched.acknowledged = store->last_sequence().value;
    }
    if (prng.chance(40)) REQUIRE(store->checkpoint().ok());
  }
  REQUIRE(watched.snapshots.size() > 10);
  for (auto& [image, acknowledged] : watched.snapshots) {
    MemoryDevice crashed(image);
    auto recovered = f.open(crashed);
    const uint64_t last = recovered->last_sequence().value;
    REQUIRE(last >= acknowledged);
    REQUIRE(last - base < history.size());
    for (const auto& [n, checksum] : history[last - base]) {
      Pointer pointer = pointer_of(*recovered, n);
      REQUIRE(pointer.checksum == checksum);
      AlignedBuffer block(kBlockSize);
      REQUIRE(crashed.read(Lba(pointer.lba), block.span()).ok());
      REQUIRE(crc32c(0, block.span()) == checksum);
    }
  }
}

// Both copies of a generation must be durable before blocks of the one before are used again: else
// one copy is all there is, and when that rots, what is left refers to overwritten nodes.
TEST_CASE("a checkpoint's blocks are reused: either copy of its superblock is enough",
          "[store][crash]") {
  Fixture f;
  MemoryDevice memory(4096);
  REQUIRE(format_device(memory, format_options()).ok());
  CrashPointDevice device(memory);
  auto store = f.open(device);
  const auto put_all = [&](size_t size) {
    Model model;
    for (uint64_t n = 0; n < 300; ++n) {
      Transaction tx;
      tx.put(key_of(n), Value(size));
      model[key_of(n)] = Value(size);
      REQUIRE(store->commit(tx, true).ok());
    }
    REQUIRE(store->checkpoint().ok());
    return model;
  };
  put_all(500);
  const Model model = put_all(501);
  const uint64_t generation = read_superblock(memory)->generation;
  // Every block that is free may be written by now.
  const DiskSuperblock& superblock = store->superblock();
  const uint64_t end = memory.block_count() - 2;
  uint64_t lba = superblock.space_table_start + 2 * uint64_t{superblock.space_table_blocks};
  while (lba < end) {
    uint64_t length = 0;
    while (lba + length < end && !store->is_allocated(Lba(lba + length)).value()) ++length;
    if (length > 0) {
      AlignedBuffer garbage(length * kBlockSize);
      std::memset(garbage.data(), 0xEE, garbage.size());
      REQUIRE(device.write(Lba(lba), garbage.span()).ok());
    }
    lba += length + 1;
  }
  const VolatileCache cache = memory.crash_state();
  store->stop(ErrorCode::shut_down);
  store.reset();
  const auto slots = superblock_slots(Generation(generation));
  for_each_crash_image(cache, 1, 5, [&](const MemoryImage& image) {
    for (const uint64_t rotten : slots) {
      MemoryImage damaged = image;
      damaged.flip_bits(superblock_lba(rotten, 4096).value * kBlockSize + 200, std::byte{1});
      MemoryDevice crashed(damaged);
      auto recovered = f.open(crashed);
      REQUIRE(read_all(*recovered) == model);
    }
  });
}

TEST_CASE("a data commit costs one journal write and one flush, a name only one FUA write",
          "[store]") {
  Fixture f;
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options()).ok());
  auto store = f.open(device);
  Prng prng(1);
  Pointers model;
  const auto& c = device.counters();
  uint64_t writes = c.writes, flushes = c.flushes, fua = c.fua_writes;
  change_pointer(*store, device, prng, 1, model);
  REQUIRE(store->sync(store->last_sequence()).ok());
  REQUIRE(c.writes - writes == 2);  // data and journal
  REQUIRE(c.flushes - flushes == 1);
  REQUIRE(c.fua_writes == fua);
  writes = c.writes, flushes = c.flushes;
  Transaction tx;
  tx.put(key_of(1), Value(10));
  REQUIRE(store->commit(tx, true).ok());
  REQUIRE(store->sync(store->last_sequence()).ok());
  REQUIRE(c.writes - writes == 1);
  REQUIRE(c.fua_writes - fua == 1);
  REQUIRE(c.flushes == flushes);
}

TEST_CASE("a read-only open replays in memory and writes nothing", "[store]") {
  Fixture f;
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options()).ok());
  Prng prng(3);
  Model model;
  {
    auto store = f.open(device);
    for (int i = 0; i < 200; ++i) {
      REQUIRE(store->commit(random_transaction(prng, model, 500, 200), true).ok());
    }
    REQUIRE(store->sync(store->last_sequence()).ok());
    device.crash(CrashPolicy{}, prng);
  }
  const uint64_t writes = device.counters().writes;
  StoreOptions o = f.options();
  o.read_only = true;
  auto store = Store::open(device, o);
  REQUIRE(store.ok());
  REQUIRE(read_all(**store) == model);
  Transaction tx;
  tx.put(key_of(1), Value(3));
  REQUIRE((*store)->commit(tx, true).error().code() == ErrorCode::read_only);
  REQUIRE(device.counters().writes == writes);
}

TEST_CASE("freed blocks come back only once the freeing is durable", "[store][space]") {
  Fixture f;
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options()).ok());
  auto store = f.open(device);
  auto reservation = store->reserve_space(100);
  REQUIRE(reservation.ok());
  auto range = store->allocate(*reservation, 100, Lba(0));
  REQUIRE(range.ok());
  REQUIRE(range->length_blocks == 100);
  Transaction map;
  map.allocate(*range);
  REQUIRE(store->commit(map, false).ok());
  Transaction unmap;
  unmap.free(*range);
  REQUIRE(store->commit(unmap, false).ok());
  REQUIRE(store->gauges().blocks_pending_free >= 100);
  ReadPin pin = store->pin();
  REQUIRE(store->sync(store->last_sequence()).ok());
  REQUIRE(store->gauges().blocks_pending_free >= 100);  // a reader may still look at them
  pin.release();
  REQUIRE(store->gauges().blocks_pending_free == 0);
}

TEST_CASE("a full filesystem refuses growth, still deletes, and gets its space back",
          "[store][space]") {
  Fixture f;
  MemoryDevice device(4096);
  REQUIRE(format_device(device, format_options(GENERATE(1, 2))).ok());
  auto store = f.open(device);
  const uint64_t free_at_start = store->space_usage().free_blocks;
  uint64_t n = 0;
  for (;; ++n) {
    Transaction tx;
    tx.put(any_key(Ino(10 + n), 5), Value(900));
    auto result = store->commit(tx, true);
    if (!result.ok()) {
      REQUIRE(result.error().code() == ErrorCode::no_space);
      break;
    }
    REQUIRE(n < 100000);
  }
  REQUIRE(n > 1000);
  REQUIRE(store->space_usage().available_blocks < 16);
  REQUIRE_FALSE(store->reserve_space(64).ok());
  for (uint64_t i = 0; i < n; ++i) {
    Transaction tx;
    tx.erase(any_key(Ino(10 + i), 5));
    REQUIRE(store->commit(tx, false).ok());
  }
  REQUIRE(store->checkpoint().ok());
  REQUIRE(store->checkpoint().ok());
  REQUIRE(store->space_usage().free_blocks + 4 >= free_at_start);
  REQUIRE(store->close().ok());
}

TEST_CASE("many threads commit and sync at once", "[store][threads]") {
  Fixture f;
  MemoryDeviceOptions device_options;
  device_options.asynchronous = true;
  MemoryDevice device(16384, device_options);
  REQUIRE(format_device(device, format_options()).ok());
  Model expected;
  {
    auto store = f.open(device, true);
    std::vector<Model> models(4);
    std::vector<Thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back("committer", [&, t] {
        Prng prng(100 + t);
        for (int i = 0; i < 1000; ++i) {
          Key key = any_key(Ino(100 + t), prng.below(300));
          Transaction tx;
          Value value = random_value(prng, 200);
          tx.put(key, value);
          models[t][key] = value;
          auto sequence = store->commit(tx, true);
          if (!sequence.ok()) ++failures;
          if (prng.chance(30) && !store->sync(*sequence).ok()) ++failures;
          if (prng.chance(100) && !store->scan(Key(100, 0, 0), key, 50).ok()) ++failures;
        }
      });
    }
    for (Thread& thread : threads) thread.join();
    REQUIRE(failures == 0);
    for (Model& model : models) expected.insert(model.begin(), model.end());
    REQUIRE(read_all(*store) == expected);
    REQUIRE(store->close().ok());
  }
  auto store = f.open(device);
  REQUIRE(read_all(*store) == expected);
}

TEST_CASE("a small journal ring is used over and over without losing anything", "[store]") {
  Fixture f;
  MemoryDevice device(8192);
  FormatOptions o = format_options();
  o.journal_blocks = 256;
  REQUIRE(format_device(device, o).ok());
  Prng prng(5);
  Model model;
  {
    auto store = f.open(device);
    for (int i = 0; i < 6000; ++i) {
      Transaction tx = random_transaction(prng, model, 300, 900);
      REQUIRE(store->commit(tx, true).ok());
      if (i % 3 == 0) REQUIRE(store->sync(store->last_sequence()).ok());
    }
    REQUIRE(store->counters().journal_blocks > 3 * 256);
    REQUIRE(store->sync(store->last_sequence()).ok());
    device.crash(CrashPolicy{}, prng);
  }
  auto store = f.open(device);
  REQUIRE(read_all(*store) == model);
}

// The keys of a leaf that is emptied and removed go to the leaf beside it.
TEST_CASE("a transaction that empties leaves and puts keys of them needs no luck with the cache",
          "[store]") {
  constexpr uint64_t kKeys = 300, kErased = 7;
  Fixture f;
  MemoryDevice device(8192);
  REQUIRE(format_device(device, format_options()).ok());
  const auto key = [](uint64_t n) { return any_key(Ino(5), n); };
  const Value value(1000, std::byte{7});  // three a leaf
  Model model;
  auto store = f.open(device);
  for (uint64_t i = 0; i < kKeys; ++i) {
    Transaction tx;
    tx.put(key(1000 * i), value);
    model[key(1000 * i)] = value;
    REQUIRE(store->commit(tx, false).ok());
  }
  REQUIRE(store->close().ok());
  for (uint64_t start = 0; start + kErased <= kKeys; start += 4) {
    INFO("from " << start);
    store = f.open(device);  // no leaf is in memory
    Transaction there, back;
    for (uint64_t i = start; i < start + kErased; ++i) {
      there.erase(key(1000 * i));
      back.put(key(1000 * i), value);
    }
    for (const uint64_t i : {start, start + kErased / 2, start + kErased - 1}) {
      there.put(key(1000 * i + 500), value);
      back.erase(key(1000 * i + 500));
    }
    REQUIRE(store->commit(there, false).ok());
    if (start % 8 == 0) {
      REQUIRE(store->close().ok());
    } else {  // the replay has no leaf in memory either
      REQUIRE(store->sync(store->last_sequence()).ok());
      store->stop(ErrorCode::shut_down);
    }
    store = f.open(device);
    REQUIRE(store->commit(back, false).ok());
    REQUIRE(store->close().ok());
  }
  store = f.open(device);
  CHECK(read_all(*store) == model);
}
