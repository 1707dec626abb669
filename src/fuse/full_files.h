// SPDX-License-Identifier: GPL-2.0-or-later
// Files for which the kernel's cache holds data that found no space.
//
// The kernel accepts write(2) into its cache without asking us, and keeps the error of a failed
// writeback for fsync and close: a program that only writes would go on for ever. But before each
// write it looks at attributes that we have declared out of date, through the file's handle - and
// the error of that GETATTR ends the write(2).
#pragma once

#include <atomic>
#include <set>

#include "base/ids.h"
#include "base/sync.h"

namespace stablefs {

class FullFiles {
 public:
  void add(Ino ino) {
    MutexLock lock(mutex_);
    files_.insert(ino);
    count_.store(files_.size(), std::memory_order_relaxed);
  }
  // Whoever has the file open was told, or there is space again.
  void remove(Ino ino) {
    if (count_.load(std::memory_order_relaxed) == 0) return;
    MutexLock lock(mutex_);
    files_.erase(ino);
    count_.store(files_.size(), std::memory_order_relaxed);
  }
  bool contains(Ino ino) {
    if (count_.load(std::memory_order_relaxed) == 0) return false;
    MutexLock lock(mutex_);
    return files_.contains(ino);
  }

 private:
  Mutex mutex_{LockRank::leaf, "files without space"};
  std::set<Ino> files_ FS_GUARDED_BY(mutex_);
  std::atomic<size_t> count_{0};
};

}  // namespace stablefs
