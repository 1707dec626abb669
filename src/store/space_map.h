// SPDX-License-Identifier: GPL-2.0-or-later
// The space maps. Passive: no locks, no I/O; the store calls it under its space lock.
//
// Two maps a group: *committed* (what the tree at the last sequence references: the only one that
// goes to disk, frozen with the tree) and *busy* (in memory only: allocated and not committed yet,
// or freed and not reusable yet). A block may be allocated when it is in neither.
// Bitmaps are loaded on demand; which groups are needed can be asked beforehand.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "format/ondisk.h"

namespace stablefs {

using BitmapBlock = std::vector<uint64_t>;  // kGroupBlocks bits, bit set: in use

class SpaceMap {
 public:
  explicit SpaceMap(uint64_t block_count) : block_count_(block_count) {}

  void load_table(std::vector<DiskSpaceEntry> table);  // before anything else is called

  uint32_t group_count() const { return static_cast<uint32_t>(groups_.size()); }
  static uint32_t group_of(Lba lba) { return static_cast<uint32_t>(lba.value / kGroupBlocks); }
  bool loaded(uint32_t group) const { return groups_[group].committed != nullptr; }
  const DiskSpaceEntry& entry(uint32_t group) const { return table_[group]; }
  // Body of the group's current bitmap block, checksum already verified by the caller.
  void install(uint32_t group, std::span<const std::byte> bitmap);
  // First group of the range that is not loaded.
  std::optional<uint32_t> missing_group(BlockRange range) const;

  // --- allocation: marks busy. Up to `want` contiguous blocks near `goal`, at least 1; nothing if
  // no loaded group has a free block. Prefers length over nearness once `goal` itself is taken.
  std::optional<BlockRange> allocate(uint64_t want, Lba goal);
  // One block for the second copy of what is at `from`: half a device away where that is free.
  std::optional<BlockRange> allocate_apart(Lba from);
  // An unloaded group that has free blocks, near `goal`: loading it may help allocate().
  std::optional<uint32_t> group_worth_loading(Lba goal) const;
  void give_back(BlockRange range);  // busy, never committed
  // The first run of free blocks in `range`, of at least `least_blocks`, is busy from now on; the
  // group that the range begins in is loaded, and what lies in others is not looked at.
  std::optional<BlockRange> take_free(BlockRange range, uint64_t least_blocks);

  // --- changes by transactions. False: the maps say otherwise (damage; nothing was changed).
  bool commit_allocation(BlockRange range, bool was_busy);
  bool commit_free(BlockRange range);    // leaves the blocks busy
  void release_freed(BlockRange range);  // no longer busy: reusable

  // --- checkpoint
  struct FrozenBitmap {
    uint32_t group;
    uint32_t slot;  // the slot to write, which the table names from now on
    BitmapBlock bits;
    uint32_t free_blocks;
  };
  // Copies the committed bitmaps that changed since the last freeze and switches their slots.
  std::vector<FrozenBitmap> freeze();
  void set_checksum(uint32_t group, uint32_t checksum) { table_[group].checksum = checksum; }
  // Table as of the last freeze, with checksums set since.
  const std::vector<DiskSpaceEntry>& table() const { return table_; }
  uint64_t frozen_free_blocks() const { return frozen_free_blocks_; }

  // --- counting
  uint64_t available() const { return available_; }      // neither committed nor busy
  uint64_t loaded_available() const;                     // of that, in loaded groups
  uint64_t uncommitted() const { return uncommitted_; }  // not in the committed map
  uint64_t pending_free() const { return pending_free_; }
  bool is_committed(Lba lba) const;
  const BitmapBlock& committed(uint32_t group) const { return *groups_[group].committed; }

 private:
  struct Group {
    std::unique_ptr<BitmapBlock> committed;
    std::unique_ptr<BitmapBlock> busy;
    uint32_t available = 0;
    uint32_t free_committed = 0;  // blocks not in the committed map
    bool changed = false;
  };
  struct Run {
    uint32_t start = 0, length = 0;
  };
  uint32_t group_blocks(uint32_t group) const;
  // Of free blocks, from `at` on, `want` at most: length 0 when `at` is in use.
  static Run free_run(const Group& group, uint32_t blocks, uint32_t at, uint64_t want);
  static uint32_t skip_used(const Group& group, uint32_t blocks, uint32_t at);
  Run find_run(const Group& group, uint32_t blocks, uint32_t from, uint64_t want) const;
  void take(uint32_t group, Run run);
  template <class Function>
  bool for_each_part(BlockRange range, Function function);

  const uint64_t block_count_;
  std::vector<Group> groups_;
  std::vector<DiskSpaceEntry> table_;
  uint64_t available_ = 0;
  uint64_t uncommitted_ = 0;
  uint64_t pending_free_ = 0;
  uint64_t frozen_free_blocks_ = 0;
  Lba cursor_;
};

}  // namespace stablefs
