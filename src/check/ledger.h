// SPDX-License-Identifier: GPL-2.0-or-later
// What the item pass writes down for the passes that compare: a few bits a block, some tens of
// bytes an inode, nothing an item.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>

#include "check/block_set.h"
#include "stablefs/format.h"

namespace stablefs {

struct InodeRecord {
  bool present = false;        // has an inode item
  bool valid = false;          // ... that passed validation
  bool type_conflict = false;  // its entries disagree about its type
  uint8_t type = 0;            // DT_*, of the inode item
  uint8_t entry_type = 0;      // DT_*, of the first entry
  uint32_t link_count = 0;
  uint32_t entries = 0;
  uint32_t subdirectories = 0;  // entries in this directory that lead to directories
  uint64_t parent = 0;          // of directories, as the inode item says
  uint64_t first_parent = 0;    // directory of the first entry
  uint64_t size_bytes = 0;
};

struct SharedRun {
  uint64_t length_blocks;
  uint32_t count;
};

struct Ledger {
  explicit Ledger(uint64_t block_count)
      : mapped(block_count), needs_tuples(block_count), has_tuples(block_count) {}

  BlockSet mapped;                                         // by extents
  BlockSet needs_tuples;                                   // written, tuples not inline
  BlockSet has_tuples;                                     // in tuples items
  std::map<uint64_t, SharedRun> references;                // by LBA
  std::unordered_map<uint64_t, uint32_t> references_seen;  // blocks of those runs
  std::map<uint64_t, DiskOrphan> orphans;                  // by inode number
  std::map<uint64_t, DiskDamage> damage;                   // by LBA; gone when seen to be mapped
  std::unordered_map<uint64_t, InodeRecord> inodes;
  uint64_t highest_ino = 0;

  const SharedRun* reference_at(uint64_t lba) const {
    auto next = references.upper_bound(lba);
    if (next == references.begin()) return nullptr;
    --next;
    return lba - next->first < next->second.length_blocks ? &next->second : nullptr;
  }
};

}  // namespace stablefs
