// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes without a name. The transaction that drops the last link puts an orphan item, so that a
// crash at any later moment leaves a note; the contents go with the last use, small ones on the
// thread that ends it, large ones and those a crash left over on a thread of their own.
#pragma once

#include <atomic>
#include <deque>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"
#include "fs/inode_table.h"
#include "store/store.h"

namespace stablefs {

// Items of extended attributes that one transaction removes.
inline constexpr size_t kXattrItemsAtOnce = 128;

class Orphans {
 public:
  Orphans(Store& store, InodeTable& inodes, Logger& logger)
      : store_(store), inodes_(inodes), logger_(logger) {}
  ~Orphans() { stop(); }

  // At mount: finishes truncations and queues removals.
  Status recover();
  void start();
  // Waits until nothing is queued; false when there was nothing.
  bool drain();
  void stop();  // what is still queued is for the next mount

  static void doom(Transaction& transaction, Ino ino);
  static void spare(Transaction& transaction, Ino ino);
  // The chunks of a symlink's target.
  static void erase_target(Transaction& transaction, Ino ino, uint64_t length_bytes);

  // The last use of a doomed inode has ended (InodeTable::close_contents said so).
  void reclaim(InodeRef inode);

  uint64_t reclaimed() const { return reclaimed_; }
  uint64_t queued();

 private:
  Status finish_truncation(Ino ino, uint64_t start_block);
  Status remove(Inode& inode);
  Status remove_xattrs(Inode& inode);
  void remove_and_log(Inode& inode);
  void remove_recovered(Ino ino);
  void run();
  void log(LogLevel level, Ino ino, const char* what, const Error& error);

  Store& store_;
  InodeTable& inodes_;
  Logger& logger_;
  std::atomic<uint64_t> reclaimed_{0};

  Mutex mutex_{LockRank::leaf, "orphans"};
  CondVar wake_;
  CondVar idle_;
  std::deque<InodeRef> queue_ FS_GUARDED_BY(mutex_);
  std::deque<Ino> recovered_ FS_GUARDED_BY(mutex_);
  bool busy_ FS_GUARDED_BY(mutex_) = false;
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

// A use of an inode's contents, also without an open file: keeps them from being removed, and
// removes them when it was the last. Must end with no lock held.
class ContentsUse {
 public:
  ContentsUse() = default;
  // stale_inode when they are being removed already.
  static Result<ContentsUse> begin(InodeTable& inodes, Orphans& orphans, InodeRef inode);
  ContentsUse(ContentsUse&& other) noexcept = default;
  ContentsUse& operator=(ContentsUse&& other) noexcept;
  ~ContentsUse() { end(); }

  explicit operator bool() const { return static_cast<bool>(inode_); }
  Inode* operator->() const { return inode_.get(); }
  Inode& operator*() const { return *inode_; }
  Inode* get() const { return inode_.get(); }
  const InodeRef& ref() const { return inode_; }
  void end();

 private:
  ContentsUse(InodeTable& inodes, Orphans& orphans, InodeRef inode)
      : inodes_(&inodes), orphans_(&orphans), inode_(std::move(inode)) {}

  InodeTable* inodes_ = nullptr;
  Orphans* orphans_ = nullptr;
  InodeRef inode_;
};

}  // namespace stablefs
