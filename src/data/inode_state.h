// SPDX-License-Identifier: GPL-2.0-or-later
// The attributes of one inode in memory, shared by `fs` (names, chmod, ...) and `data` (size, block
// count, times moved by writes and by finished ordered extents).
//
// Whoever commits a transaction that puts the inode item holds `mutex` from building the item until
// Store::commit has returned: otherwise the later of two transactions could carry the older item.
// Nobody waits for ordered extents, pages or range locks while holding it (finishing an ordered
// extent takes it). Several of these mutexes are taken in order of inode number
// (lock_same_rank).
#pragma once

#include <atomic>

#include "base/clock.h"
#include "base/ids.h"
#include "base/sync.h"
#include "format/items.h"
#include "stablefs/format.h"

namespace stablefs {

struct InodeAttributes {
  uint32_t mode = 0;
  uint32_t uid = 0, gid = 0;
  uint32_t link_count = 0;
  uint64_t size_bytes = 0;       // what users see
  uint64_t disk_size_bytes = 0;  // what the item says: never covers data that did not arrive
  uint64_t block_count = 0;      // mapped blocks
  Timestamp access_time, modify_time, change_time, birth_time;
  uint32_t device = 0;
  uint32_t generation = 0;
  Ino parent;
  uint32_t flags = 0;
  uint16_t app_tag = 0;
};

struct InodeState {
  explicit InodeState(Ino number) : ino(number) {}

  const Ino ino;
  Mutex mutex{LockRank::attributes, "inode attributes"};
  InodeAttributes attributes FS_GUARDED_BY(mutex);
  // Times (or a size held back) in memory that no committed item has yet: written by the next
  // transaction on the inode, by fsync, or by the periodic commit.
  bool item_dirty FS_GUARDED_BY(mutex) = false;
  Sequence last_sequence FS_GUARDED_BY(mutex);  // of the last transaction that put the item
  // Odd while a transaction that changes extents of the file is applied: a reader looks at the tree
  // several times, and must not see it before and after.
  std::atomic<uint64_t> mapping_changes{0};
};

// Around such a commit, by the holder of the mutex.
class MappingChange {
 public:
  explicit MappingChange(InodeState& inode) : inode_(inode) { inode_.mapping_changes.fetch_add(1); }
  ~MappingChange() { inode_.mapping_changes.fetch_add(1); }
  MappingChange(const MappingChange&) = delete;
  MappingChange& operator=(const MappingChange&) = delete;

 private:
  InodeState& inode_;
};

// The item as it goes to disk: size is disk_size_bytes.
DiskInode to_disk(const InodeAttributes& attributes);
InodeAttributes from_disk(const DiskInode& item);

}  // namespace stablefs
