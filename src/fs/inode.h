// SPDX-License-Identifier: GPL-2.0-or-later
// One inode in memory. There is never more than one object for an inode number (InodeTable), so
// its locks and its page cache are the only ones.
//
// Locks: `names` serialises the entries of a directory (readers shared), and truncations of a file
// (shared) with its getting a first name; InodeState::mutex covers the attributes and is held over
// every commit that puts the item; the shard of the table guards the counts. Whatever changes a
// link count to or from zero does so under InodeState::mutex.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/sync.h"
#include "data/file_data.h"
#include "data/inode_state.h"

namespace stablefs {

// What may still be done with the contents (file data, symlink target) of an inode.
enum class Contents : uint8_t {
  linked,  // has a name, or is about to get one
  // No name: go with the last open file, and not before the kernel has forgotten the inode. An open
  // that looked the name up before it went, or was given to another file, still gets this one.
  doomed,
  reclaiming,  // being removed: nobody gets in
  gone,
};

enum class Known : uint8_t { unknown, no, yes };

struct Inode {
  Inode(Ino ino, const InodeAttributes& initial) : state(ino), type(initial.mode & S_IFMT) {
    MutexLock lock(state.mutex);
    state.attributes = initial;
    flags = initial.flags;
  }
  ~Inode() { delete data(); }
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;

  Ino ino() const { return state.ino; }
  bool is_directory() const { return type == S_IFDIR; }
  bool is_regular() const { return type == S_IFREG; }
  bool is_symlink() const { return type == S_IFLNK; }

  InodeState state;
  const uint32_t type;  // S_IFMT bits: fixed for life
  SharedMutex names{LockRank::inode, "names of a directory"};
  // The item is no longer on disk: what is left of the inode is in memory only.
  bool erased FS_GUARDED_BY(state.mutex) = false;

  // Contents of a regular file, once somebody has used them: most inodes are only looked at.
  FileData* data() const { return used_data.load(std::memory_order_acquire); }
  std::atomic<FileData*> used_data{nullptr};  // set by InodeTable::data_of, owned

  // Something may be in memory that no transaction has yet (times, pages): keeps the inode in the
  // table until the flusher has been here. Set after the change, by a holder of a pin, so that a
  // flusher that looks in between finds the change or the mark.
  std::atomic<bool> touched{false};
  // Pages were ever dirty or truncated through this object: removal must go through FileData.
  std::atomic<bool> data_used{false};
  std::atomic<uint32_t> writers{0};  // open files that may write

  // Written under InodeState::mutex, readable without. `flags` are those of the attributes.
  std::atomic<uint32_t> flags{0};
  Timestamp flags_change_time;  // of this mount; used by whoever holds an ItemUpdate of the inode
  std::atomic<Known> xattrs{Known::unknown};      // has extended attributes
  std::atomic<Known> capability{Known::unknown};  // ... security.capability among them

  // Guarded by the mutex of the table's shard.
  struct Counts {
    uint64_t lookups = 0;  // what the kernel knows of
    uint64_t pins = 0;     // InodeRef
    uint64_t opens = 0;    // open files and calls that use the contents
    Contents contents = Contents::linked;
  } counts;
};

}  // namespace stablefs
