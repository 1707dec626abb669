// SPDX-License-Identifier: GPL-2.0-or-later
// What namespace.cc and rename.cc share: locks on names, and the attributes of a directory as its
// entries change.
#pragma once

#include <sys/stat.h>

#include <cstdint>

#include "base/result.h"
#include "data/inode_state.h"
#include "fs/inode.h"

namespace stablefs {

// st_size of a directory: a figure per entry, nothing depends on it.
inline constexpr uint64_t kDirectoryEntryBytes = 32;
inline constexpr uint32_t kMaxLinks = 0x7FFF'FFFF;

inline uint8_t dirent_type(uint32_t mode) {
  return static_cast<uint8_t>((mode & S_IFMT) >> 12);
}

// The `names` of one or two inodes, exclusively.
class NamesLock {
 public:
  NamesLock(Inode& a, Inode& b) FS_NO_THREAD_SAFETY_ANALYSIS : low_(a.ino() < b.ino() ? a : b),
                                                               high_(a.ino() < b.ino() ? b : a) {
    low_.names.lock();
    if (&low_ != &high_) high_.names.lock_same_rank();
  }
  ~NamesLock() FS_NO_THREAD_SAFETY_ANALYSIS {
    if (&low_ != &high_) high_.names.unlock();
    low_.names.unlock();
  }
  NamesLock(const NamesLock&) = delete;
  NamesLock& operator=(const NamesLock&) = delete;

 private:
  Inode& low_;
  Inode& high_;
};

// A directory with the set-group-ID bit hands its group down, and the bit to subdirectories.
void inherit_group(const InodeAttributes& directory, InodeAttributes& created);
void touch_directory(InodeAttributes& directory, Timestamp time);
void count_entries(InodeAttributes& directory, int64_t entries);  // added, or removed when negative
Status add_subdirectory(InodeAttributes& directory);
void remove_subdirectory(InodeAttributes& directory);

}  // namespace stablefs
