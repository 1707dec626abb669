// SPDX-License-Identifier: GPL-2.0-or-later
// A small filesystem with one of everything, and ways to damage it: by transactions the store
// accepts (what is wrong is between items), or block by block with checksums made good again.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "check/check.h"
#include "check/raw.h"
#include "device/memory_device.h"
#include "format/dirent.h"
#include "format/items.h"
#include "format/xattr.h"
#include "store/store.h"

namespace stablefs {

class CheckFixture {
 public:
  static constexpr uint64_t kBlocks = 40000;  // two groups, the second one short
  static constexpr uint64_t kDirectory = 2, kFile = 3, kSymlink = 4, kDevice = 5, kHardLink = 6,
                            kRemoved = 7, kTruncated = 8, kSharedA = 9, kSharedB = 10,
                            kFirstMany = 100, kManyCount = 150;

  struct Empty {};  // nothing but the root directory

  explicit CheckFixture(uint8_t copies = 1, Interval interval = Interval::block_4096)
      : device_(kBlocks) {
    format(copies, interval);
    with_store([this](Store& store) { populate(store); });
  }
  explicit CheckFixture(Empty) : device_(kBlocks) { format(1, Interval::block_4096); }

  MemoryDevice& device() { return device_; }
  void format(uint8_t copies, Interval interval) {
    FormatOptions options;
    options.uuid = {1, 2, 3};
    options.hash_seed = {4, 5, 6};
    options.epoch = {7, 8, 9};
    options.copies = copies;
    options.interval = interval;
    REQUIRE(format_device(device_, options).ok());
  }

  // Runs `body` on a writable store, then unmounts. `crash`: leaves the journal to be replayed.
  void with_store(const std::function<void(Store&)>& body, bool crash = false) {
    auto store = Store::open(device_, options());
    REQUIRE(store.ok());
    body(**store);
    if (crash) {
      REQUIRE((*store)->sync((*store)->last_sequence()).ok());
      (*store)->stop(ErrorCode::shut_down);
    } else {
      REQUIRE((*store)->close().ok());
    }
  }
  void commit(const std::function<void(Transaction&)>& build, bool crash = false) {
    with_store(
        [&](Store& store) {
          Transaction transaction;
          build(transaction);
          auto committed = store.commit(transaction, false);
          if (!committed.ok()) FAIL(committed.error().message());
        },
        crash);
  }
  // Changes an item that is a struct.
  template <class T>
  void change(const Key& key, const std::function<void(T&)>& apply) {
    with_store([&](Store& store) {
      auto value = store.get(key).value().value();
      T object;
      std::memcpy(&object, value.data(), sizeof object);
      apply(object);
      std::memcpy(value.data(), &object, sizeof object);
      Transaction transaction;
      transaction.put(key, value);
      REQUIRE(store.commit(transaction, false).ok());
    });
  }
  void change_inode(uint64_t ino, const std::function<void(DiskInode&)>& apply) {
    change<DiskInode>(inode_key(ino), apply);
  }

  // Ids of all problems, with how often each occurs.
  std::map<std::string, int> check(bool verify_data = false) {
    std::map<std::string, int> found;
    CheckOptions options;
    options.verify_data = verify_data;
    texts_.clear();
    options.report = [&](const Problem& problem) {
      ++found[problem_name(problem.id)];
      texts_ += problem.text() + "\n";
    };
    auto report = check_filesystem(device_, options, clock_, logger_);
    if (!report.ok()) FAIL(report.error().message());
    report_ = *report;
    return found;
  }
  // The check finds this and nothing else.
  void expect_only(ProblemId id, bool verify_data = false) {
    const auto found = check(verify_data);
    INFO(texts_);
    REQUIRE(found.size() == 1);
    CHECK(found.begin()->first == problem_name(id));
    CHECK(report_.clean() == (problem_severity(id) == Severity::degraded));
  }
  const CheckReport& report() const { return report_; }
  const std::string& texts() const { return texts_; }

  // --- blocks
  DiskSuperblock superblock() { return read_superblock(device_).value(); }
  template <class T>
  T read_block(uint64_t lba) {
    static_assert(sizeof(T) == kBlockSize);
    T object;
    AlignedBuffer buffer(kBlockSize);
    REQUIRE(device_.read(Lba(lba), buffer.span()).ok());
    std::memcpy(&object, buffer.data(), sizeof object);
    return object;
  }
  template <class T>
  void write_block(uint64_t lba, const T& object) {
    static_assert(sizeof(T) == kBlockSize);
    AlignedBuffer buffer(kBlockSize);
    std::memcpy(buffer.data(), &object, sizeof object);
    REQUIRE(device_.write(Lba(lba), buffer.span()).ok());
  }
  void flip_byte(uint64_t lba, size_t offset = 100) {
    auto block = read_block<Block>(lba);
    block[offset] ^= std::byte{1};
    write_block(lba, block);
  }
  // Changes both copies of the newest superblock.
  void change_superblock(const std::function<void(DiskSuperblock&)>& apply) {
    DiskSuperblock s = superblock();
    apply(s);
    seal_superblock(s);
    for (uint64_t slot : superblock_slots(Generation(s.generation))) {
      write_block(superblock_lba(slot, kBlocks).value, s);
    }
  }
  // Changes the node of `level` on the way to `key` and makes every checksum good again.
  void change_node(const Key& key, uint32_t level,
                   const std::function<void(std::span<std::byte>)>& apply) {
    DiskSuperblock s = superblock();
    DiskNodePointer root = s.root;
    change_below(root, s.root_level, key, level, apply);
    change_superblock([&](DiskSuperblock& changed) { changed.root = root; });
  }
  NodeAddress node_address(const Key& key, uint32_t level) {
    DiskSuperblock s = superblock();
    DiskNodePointer pointer = s.root;
    for (uint32_t at = s.root_level; at > level; --at) {
      auto block = read_block<Block>(pointer.lba[0]);
      pointer = child_for(block, key).pointer;
    }
    return from_disk(pointer);
  }
  // Changes bitmap and table entry of a group and makes the checksums good again.
  void change_group(uint32_t group,
                    const std::function<void(std::span<std::byte>, DiskSpaceEntry&)>& apply) {
    const DiskSuperblock s = superblock();
    const uint64_t table_lba =
        s.space_table_start + uint64_t{s.space_table_slot} * s.space_table_blocks;
    auto table = read_block<Block>(table_lba);
    DiskSpaceEntry& entry = reinterpret_cast<DiskSpaceEntry*>(table.data())[group];
    const uint64_t lba = s.bitmap_start + 2 * group + slot_of(entry);
    auto bitmap = read_block<Block>(lba);
    apply(bitmap, entry);
    entry.checksum = crc32c(0, bitmap);
    write_block(lba, bitmap);
    write_block(table_lba, table);
    change_superblock([&](DiskSuperblock& c) { c.space_table_checksum = crc32c(0, table); });
  }

  static Key inode_key(uint64_t ino) { return Key(Ino(ino), ItemKind::inode, 0); }
  static Key extent_key(uint64_t ino, uint64_t block) {
    return Key(Ino(ino), ItemKind::extent, block);
  }
  Key dirent_key(uint64_t directory, const std::string& name, uint32_t ordinal = 0) {
    const DiskSuperblock s = superblock();
    return Key(Ino(directory), ItemKind::dirent,
               dirent_cookie(dirent_hash(s.hash_seed, name), ordinal));
  }
  static std::vector<std::byte> dirent_value(const std::string& name, uint64_t ino, uint8_t type) {
    DiskDirent dirent;
    dirent.ino = ino;
    dirent.type = type;
    dirent.name_length = static_cast<uint8_t>(name.size());
    std::vector<std::byte> value(sizeof dirent + name.size());
    std::memcpy(value.data(), &dirent, sizeof dirent);
    std::memcpy(value.data() + sizeof dirent, name.data(), name.size());
    return value;
  }
  Key xattr_key(uint64_t ino, const std::string& name, uint32_t chunk = 0, uint32_t ordinal = 0) {
    const DiskSuperblock s = superblock();
    return Key(Ino(ino), ItemKind::xattr,
               xattr_offset(xattr_hash(dirent_hash(s.hash_seed, name)), ordinal, chunk));
  }
  // Header, name and value of an extended attribute.
  static std::vector<std::byte> whole_xattr(const std::string& name,
                                            const std::vector<std::byte>& value) {
    DiskXattr header{};
    header.value_length_bytes = static_cast<uint32_t>(value.size());
    header.name_length = static_cast<uint8_t>(name.size());
    std::vector<std::byte> whole(sizeof header + name.size());
    std::memcpy(whole.data(), &header, sizeof header);
    std::memcpy(whole.data() + sizeof header, name.data(), name.size());
    whole.insert(whole.end(), value.begin(), value.end());
    return whole;
  }
  void put_xattr(Transaction& transaction, uint64_t ino, const std::string& name,
                 const std::vector<std::byte>& value, uint32_t ordinal = 0) {
    const auto whole = whole_xattr(name, value);
    uint32_t chunk = 0;
    for (size_t at = 0; at < whole.size(); at += kMaxValueBytes, ++chunk) {
      const size_t length = std::min<size_t>(kMaxValueBytes, whole.size() - at);
      transaction.put(xattr_key(ino, name, chunk, ordinal), std::span(whole).subspan(at, length));
    }
  }
  // Something that hurts nobody.
  void put_any(Transaction& transaction) { put_xattr(transaction, kFile, "user.any", {}); }
  static DiskInode inode(uint32_t mode, uint32_t links, uint64_t size = 0, uint64_t blocks = 0) {
    DiskInode disk{};
    disk.mode = mode;
    disk.link_count = links;
    disk.size_bytes = size;
    disk.block_count = blocks;
    return disk;
  }

  BlockRange inline_blocks, keyed_blocks, unwritten_blocks, shared_blocks;
  uint32_t dirents_in_root = 0;

 private:
  using Block = std::array<std::byte, kBlockSize>;

  StoreOptions options() {
    StoreOptions o;
    o.clock = &clock_;
    o.logger = &logger_;
    o.background = false;
    o.new_epoch = [this](uint8_t epoch[16]) { std::memset(epoch, ++epochs_, 16); };
    return o;
  }

  static DiskChild& child_for(Block& block, const Key& key) {
    auto& header = *reinterpret_cast<DiskNodeHeader*>(block.data());
    auto* children = reinterpret_cast<DiskChild*>(block.data() + sizeof header);
    uint32_t index = 0;
    while (index + 1 < header.count && from_disk(children[index + 1].key) <= key) ++index;
    return children[index];
  }
  void change_below(DiskNodePointer& pointer, uint32_t level, const Key& key, uint32_t wanted,
                    const std::function<void(std::span<std::byte>)>& apply) {
    auto block = read_block<Block>(pointer.lba[0]);
    if (level == wanted) {
      apply(block);
    } else {
      change_below(child_for(block, key).pointer, level - 1, key, wanted, apply);
    }
    pointer.checksum = seal_node(block, from_disk(pointer));
    for (uint64_t lba : {uint64_t{pointer.lba[0]}, uint64_t{pointer.lba[1]}}) {
      if (lba != 0) write_block(lba, block);
    }
  }

  void name(Transaction& transaction, uint64_t directory, const std::string& text, uint64_t ino,
            uint8_t type) {
    transaction.put(dirent_key(directory, text), dirent_value(text, ino, type));
  }
  void populate(Store& store);
  BlockRange write_data(Store& store, Transaction& transaction, uint64_t length,
                        std::vector<Tuple>* tuples);
  void put_extent(Transaction& transaction, uint64_t ino, uint64_t block, BlockRange range,
                  uint32_t flags, const std::vector<Tuple>& tuples);
  void put_tuples(Store& store, Transaction& transaction, BlockRange range,
                  const std::vector<Tuple>& tuples);
  void populate_names(Transaction& transaction);
  void populate_data(Store& store, Transaction& transaction);
  void populate_orphans(Store& store, Transaction& transaction);

  MemoryDevice device_;
  ManualClock clock_;
  NullLogger logger_;
  CheckReport report_;
  std::string texts_;
  int epochs_ = 0;
};

}  // namespace stablefs
