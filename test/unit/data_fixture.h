// SPDX-License-Identifier: GPL-2.0-or-later
// The data layer on the real store over a memory device that checks that buffers hold still, and a
// checker of what it leaves in the tree.
#pragma once

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/prng.h"
#include "data/extent.h"
#include "data/file_data.h"
#include "data/tuple_editor.h"
#include "device/faulty_device.h"
#include "device/memory_device.h"
#include "device/verifying_device.h"

namespace stablefs {

inline std::string what(const Status& status) {
  return status.ok() ? "ok" : status.error().message();
}
template <class T>
std::string what(const Result<T>& result) {
  return result.ok() ? "ok" : result.error().message();
}

inline std::vector<std::byte> random_bytes(Prng& prng, size_t length) {
  std::vector<std::byte> bytes(length);
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t random = prng.next() | 0x0101010101010101ull;  // never zero: holes stand out
    std::memcpy(bytes.data() + i, &random, std::min<size_t>(8, length - i));
  }
  return bytes;
}

inline BufferSlice payload_of(std::span<const std::byte> bytes) {
  BufferSlice whole(blocks_for_bytes(bytes.size()) * kBlockSize);
  std::memcpy(whole.writable().data(), bytes.data(), bytes.size());
  return whole.slice(0, bytes.size());
}

struct LastLineLogger final : Logger {
  void write(LogLevel, std::string_view line) override {
    MutexLock lock(mutex);
    last = line;
    ++lines;
  }
  Mutex mutex{LockRank::log, "test log"};
  std::string last;
  int lines = 0;
};

// Holds back writes of some blocks until it is opened: a device that is slow, or hangs.
class GateDevice final : public BlockDevice {
 public:
  explicit GateDevice(BlockDevice& inner) : inner_(inner) {}
  ~GateDevice() override { open(); }

  void close(BlockRange range) {
    MutexLock lock(mutex_);
    range_ = range;
  }
  void open() {
    std::vector<DeviceRequest*> held;
    {
      MutexLock lock(mutex_);
      range_ = {};
      held.swap(held_);
    }
    for (DeviceRequest* request : held) inner_.submit(*request);
  }
  // Lets the latest of those held go on, the others stay.
  void release_last() {
    DeviceRequest* request = nullptr;
    {
      MutexLock lock(mutex_);
      request = held_.back();
      held_.pop_back();
    }
    inner_.submit(*request);
  }
  size_t held() {
    MutexLock lock(mutex_);
    return held_.size();
  }

  void submit(DeviceRequest& request) override {
    {
      MutexLock lock(mutex_);
      const BlockRange range{request.lba, request.length_blocks};
      if (request.op == DeviceOp::write && range.start < range_.end() &&
          range_.start < range.end()) {
        held_.push_back(&request);
        return;
      }
    }
    inner_.submit(request);
  }
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }

 private:
  BlockDevice& inner_;
  Mutex mutex_{LockRank::device, "gate"};
  BlockRange range_ FS_GUARDED_BY(mutex_);
  std::vector<DeviceRequest*> held_ FS_GUARDED_BY(mutex_);
};

struct DataSetup {
  uint64_t device_blocks = 16384;
  Interval interval = Interval::block_4096;
  bool asynchronous = false;
  uint64_t seed = 1;
  uint64_t writeback_delay_ns = 3600 * kNsPerSecond;
  uint64_t dirty_limit_bytes = 256ull << 20;
  bool keep_clean = false;
  uint64_t clean_limit_bytes = 512ull << 20;
  StablePolicy stable = StablePolicy::automatic;
  uint64_t shadow_limit_bytes = 64ull << 20;
  ErrorPolicy errors = ErrorPolicy::go_on;
  std::function<void(const DeviceRequest&)> before_dma{};
};

class DataFixture {
 public:
  explicit DataFixture(const DataSetup& wanted = {}, Clock* own_clock = nullptr)
      : setup(wanted),
        clock(own_clock != nullptr ? own_clock : &system_clock),
        memory(wanted.device_blocks, {.asynchronous = wanted.asynchronous, .seed = wanted.seed}),
        verifying(memory, {.before_dma = wanted.before_dma}),
        faulty(verifying, {}),
        device(faulty) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    format.interval = setup.interval;
    if (!format_device(memory, format).ok()) FS_ASSERT(false);
    open();
  }
  ~DataFixture() { close(); }

  void open() {
    health = std::make_unique<Health>(
        HealthOptions{.policy = setup.errors, .clock = clock, .logger = &logger});
    StoreOptions store_options;
    store_options.health = health.get();
    store_options.clock = clock;
    store_options.logger = &logger;
    store_options.commit_interval_ns = 3600 * kNsPerSecond;
    store_options.new_epoch = [this](uint8_t epoch[16]) { epoch[0] = ++epochs; };
    auto opened = Store::open(device, store_options);
    FS_ASSERT(opened.ok());
    store = std::move(opened).value();
    DataOptions options;
    options.health = health.get();
    options.clock = clock;
    options.logger = &logger;
    options.writeback_delay_ns = setup.writeback_delay_ns;
    options.dirty_limit_bytes = setup.dirty_limit_bytes;
    options.stable = setup.stable;
    options.shadow_limit_bytes = setup.shadow_limit_bytes;
    options.keep_clean = setup.keep_clean;
    options.clean_limit_bytes = setup.clean_limit_bytes;
    context = DataContext::create(*store, device, options);
  }

  // The files stay on disk.
  void close() {
    if (store == nullptr) return;
    if (!store->failure()) (void)context->sync_all();
    context->stop();
    files.clear();
    inodes.clear();
    context.reset();
    (void)store->close();
    store.reset();
  }
  void reopen() {
    std::vector<Ino> old;
    for (const auto& inode : inodes) old.push_back(inode->ino);
    close();
    open();
    for (const Ino ino : old) load(ino);
  }

  FileData& make_file() {
    auto inode = std::make_unique<InodeState>(store->new_ino());
    InodeAttributes attributes;
    attributes.mode = S_IFREG | 0644;
    attributes.link_count = 1;
    attributes.app_tag = 0x1234;
    Transaction transaction;
    transaction.put_struct(Key(inode->ino, ItemKind::inode, 0), to_disk(attributes));
    FS_ASSERT(store->commit(transaction, true).ok());
    return adopt(std::move(inode), attributes);
  }
  FileData& load(Ino ino) {
    const auto value = store->get(Key(ino, ItemKind::inode, 0));
    FS_ASSERT(value.ok() && value->has_value());
    DiskInode item;
    std::memcpy(&item, (*value)->data(), sizeof item);
    return adopt(std::make_unique<InodeState>(ino), from_disk(item));
  }
  FileData& adopt(std::unique_ptr<InodeState> inode, const InodeAttributes& attributes) {
    {
      MutexLock lock(inode->mutex);
      inode->attributes = attributes;
    }
    files.push_back(context->open(*inode));
    inodes.push_back(std::move(inode));
    return *files.back();
  }

  InodeAttributes attributes(size_t index = 0) {
    MutexLock lock(inodes[index]->mutex);
    return inodes[index]->attributes;
  }

  // Where data goes (and tree nodes, at a checkpoint): faults there spare journal and superblocks.
  BlockRange data_blocks() {
    const DiskSuperblock& superblock = store->superblock();
    const uint64_t start =
        superblock.space_table_start + 2 * uint64_t{superblock.space_table_blocks};
    return {Lba(start), setup.device_blocks - 2 - start};
  }

  // Everything the data layer promises about items. Nothing may be under way. Returns the first
  // thing that is wrong.
  std::string check_items();
  // Allocated blocks that are no tree nodes: what must come back when files are freed.
  uint64_t allocated_blocks();
  // Who maps each block.
  using Owners = std::map<uint64_t, std::vector<Ino>>;
  std::string check_inode(Ino ino, Owners& owners, std::set<uint64_t>& keyed);
  std::string check_references(const Owners& owners);

  uint64_t unwritten_blocks = 0;  // that check_items has seen
  DataSetup setup;
  SystemClock system_clock;
  Clock* clock;
  LastLineLogger logger;
  MemoryDevice memory;
  VerifyingDevice verifying;
  FaultyDevice faulty;
  GateDevice device;
  uint8_t epochs = 0;
  std::unique_ptr<Health> health;
  std::unique_ptr<Store> store;
  std::unique_ptr<DataContext> context;
  std::vector<std::unique_ptr<InodeState>> inodes;
  std::vector<std::unique_ptr<FileData>> files;
};

inline uint64_t DataFixture::allocated_blocks() {
  FS_ASSERT(store->checkpoint().ok());
  uint64_t nodes = 0, allocated = 0;
  store->visit_nodes([&](const Store::NodeView&, const Status&) { ++nodes; });
  for (uint64_t lba = 0; lba < setup.device_blocks; ++lba) {
    allocated += store->is_allocated(Lba(lba)).value();
  }
  return allocated - nodes;
}

inline std::string DataFixture::check_inode(Ino ino, Owners& owners, std::set<uint64_t>& keyed) {
  const std::string name = "inode " + std::to_string(ino.value) + ": ";
  const auto value = store->get(Key(ino, ItemKind::inode, 0));
  if (!value.ok() || !value->has_value()) return name + "no item";
  DiskInode item;
  std::memcpy(&item, (*value)->data(), sizeof item);
  const auto items =
      store->scan(Key(ino, ItemKind::extent, 0), Key(ino, ItemKind::extent, ~0ull), SIZE_MAX);
  if (!items.ok()) return name + items.error().message();
  uint64_t blocks = 0, end = 0, written_end = 0;
  for (const Item& found : *items) {
    const auto extent = parse_extent(found, setup.interval);
    if (!extent.ok()) return name + extent.error().message();
    if (extent->first_block < end) return name + "extents overlap";
    end = extent->end_block();
    if (extent->unwritten) {
      unwritten_blocks += extent->length_blocks;
    } else {
      written_end = end;
    }
    blocks += extent->length_blocks;
    for (uint64_t lba = extent->lba.value; lba < extent->range().end().value; ++lba) {
      owners[lba].push_back(ino);
      if (extent->unwritten && owners[lba].size() > 1) return name + "unwritten block shared";
      const auto allocated = store->is_allocated(Lba(lba));
      if (!allocated.ok() || !*allocated) return name + "mapped but not allocated";
      if (extent->keyed()) keyed.insert(lba);
    }
  }
  if (written_end > blocks_for_bytes(item.size_bytes)) return name + "extent beyond the size";
  if (blocks != item.block_count) return name + "block count";
  return {};
}

// Items are for blocks that are mapped more than once, and all blocks of an item have the same
// owners.
inline std::string DataFixture::check_references(const Owners& owners) {
  const auto items = store->scan(Key::global(ItemKind::reference, 0),
                                 Key::global(ItemKind::reference, ~0ull), SIZE_MAX);
  if (!items.ok()) return items.error().message();
  std::set<uint64_t> described;
  for (const Item& item : *items) {
    DiskReference disk;
    std::memcpy(&disk, item.value.data(), sizeof disk);
    for (uint64_t lba = item.key.offset; lba < item.key.offset + disk.length_blocks; ++lba) {
      const auto found = owners.find(lba);
      if (found == owners.end()) return "reference to an unmapped block";
      if (found->second.size() != disk.count) return "wrong reference count";
      if (found->second != owners.at(item.key.offset)) return "reference item of several owners";
      if (!described.insert(lba).second) return "reference items overlap";
    }
  }
  for (const auto& [lba, all] : owners) {
    if (all.size() > 1 && !described.contains(lba)) return "block mapped twice";
  }
  return {};
}

inline std::string DataFixture::check_items() {
  Owners owners;
  std::set<uint64_t> keyed;
  unwritten_blocks = 0;
  for (const auto& inode : inodes) {
    const std::string wrong = check_inode(inode->ino, owners, keyed);
    if (!wrong.empty()) return wrong;
  }
  if (store->space_usage().unwritten_blocks != unwritten_blocks) return "unwritten blocks";
  if (const std::string wrong = check_references(owners); !wrong.empty()) return wrong;
  const auto items =
      store->scan(Key::global(ItemKind::tuples, 0), Key::global(ItemKind::tuples, ~0ull), SIZE_MAX);
  if (!items.ok()) return items.error().message();
  for (const Item& item : *items) {
    const uint64_t length = item.value.size() / sizeof(Tuple) / tuples_per_block(setup.interval);
    std::set<Ino> own;  // who has blocks of the item alone
    bool shared = false;
    for (uint64_t lba = item.key.offset; lba < item.key.offset + length; ++lba) {
      if (keyed.erase(lba) == 0) return "tuples of an unmapped block";
      shared |= owners[lba].size() > 1;
      if (owners[lba].size() == 1) own.insert(owners[lba].front());
    }
    if (own.size() > 1 || (shared && !own.empty())) return "tuples of several owners in one item";
  }
  return keyed.empty() ? "" : "a mapped block has no tuples";
}

// Contents of files, and waiting for what other threads do.

inline std::vector<std::byte> filled(size_t length, int value) {
  return std::vector<std::byte>(length, static_cast<std::byte>(value));
}
inline std::vector<std::byte> blocks(size_t count, int value) {
  return filled(count * kBlockSize, value);
}

inline std::vector<std::byte> contents(FileData& file, uint64_t offset, size_t length) {
  std::vector<std::byte> out(length);
  const auto read = file.read(offset, out);
  REQUIRE(what(read) == "ok");
  out.resize(*read);
  return out;
}

inline constexpr Timestamp kPutTime{2000, 7};

inline void put(FileData& file, uint64_t block, const std::vector<std::byte>& bytes) {
  const auto written = file.write(block * kBlockSize, payload_of(bytes), kPutTime);
  REQUIRE(what(written) == "ok");
  REQUIRE(*written == bytes.size());
}
// From any thread: Catch2's assertions belong to the test's own.
inline void put_at(FileData& file, uint64_t offset, const std::vector<std::byte>& bytes) {
  const auto written = file.write(offset, payload_of(bytes), kPutTime);
  FS_ASSERT(written.ok());
  FS_ASSERT(*written == bytes.size());
}

template <class Condition>
void wait_until(Condition condition) {
  SystemClock clock;
  const uint64_t deadline_ns = clock.monotonic_ns() + 20 * kNsPerSecond;
  while (!condition()) REQUIRE(clock.monotonic_ns() < deadline_ns);
}

// Writes back without delay.
inline DataSetup at_once(StablePolicy stable = StablePolicy::automatic) {
  DataSetup setup;
  setup.writeback_delay_ns = 0;
  setup.stable = stable;
  return setup;
}

}  // namespace stablefs
