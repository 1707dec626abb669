// SPDX-License-Identifier: GPL-2.0-or-later
// Whether the kernel caches the pages of an inode: one mode for all its open files, that of the
// first of them. Open files that bypass the kernel's cache beside some that use it see false ends
// of file, and make every direct write exclusive. With O_DIRECT first the kernel sends
// writes inside the file in parallel; with O_DIRECT second its own direct path is coherent with its
// cache, and exclusive.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "base/ids.h"
#include "base/sync.h"

namespace stablefs {

enum class IoMode : uint8_t { cached, direct };

// Thread-safe.
class IoModes {
 public:
  // One more open file; returns the mode of all of them.
  IoMode open(Ino ino, IoMode wanted) {
    MutexLock lock(mutex_);
    Entry& entry = files_.try_emplace(ino.value, Entry{.mode = wanted}).first->second;
    ++entry.open_files;
    return entry.mode;
  }
  // It was written past the kernel's cache.
  void note_written(Ino ino) {
    MutexLock lock(mutex_);
    const auto found = files_.find(ino.value);
    if (found != files_.end()) found->second.written = true;
  }
  // True when that was the last open file of one that was written past the kernel's cache.
  bool release(Ino ino) {
    MutexLock lock(mutex_);
    const auto found = files_.find(ino.value);
    if (found == files_.end() || --found->second.open_files != 0) return false;
    const bool written = found->second.written;
    files_.erase(found);
    return written;
  }

 private:
  struct Entry {
    IoMode mode;
    uint64_t open_files = 0;
    bool written = false;
  };
  Mutex mutex_{LockRank::leaf, "I/O modes"};
  std::unordered_map<uint64_t, Entry> files_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
