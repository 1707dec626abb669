// SPDX-License-Identifier: GPL-2.0-or-later
// Inodes with something in memory that no transaction has yet: times moved by reads and writes,
// pages of files nobody has open any more. An interval after the first of them was marked, a thread
// makes all of them durable and lets go of inodes that were kept in memory for this reason only.
// While nothing is marked it sleeps.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/sync.h"
#include "fs/inode_table.h"
#include "store/store.h"

namespace stablefs {

class Flusher {
 public:
  Flusher(Store& store, InodeTable& inodes, Clock& clock, uint64_t interval_ns)
      : store_(store), inodes_(inodes), clock_(clock), interval_ns_(interval_ns) {}
  ~Flusher() { stop(); }

  void start();
  void stop();  // waits for a pass that is under way

  // By a holder of a pin, after the change.
  void mark(Inode& inode);
  // One pass over everything that is marked now; inodes with pages still dirty stay marked unless
  // nobody uses them: then they are written back. Returns the first error.
  Status flush();
  // Puts the item when it is dirty; the result is not yet durable.
  Status commit_item(Inode& inode);

 private:
  Status flush_one(Inode& inode);
  void run();
  Status commit_marked();

  Store& store_;
  InodeTable& inodes_;
  Clock& clock_;
  const uint64_t interval_ns_;

  // Passes do not overlap: whoever returns from flush() knows that what was marked is committed.
  Mutex pass_{LockRank::rename, "flush pass"};
  Mutex mutex_{LockRank::leaf, "marked inodes"};
  CondVar wake_;
  std::vector<Ino> marked_ FS_GUARDED_BY(mutex_);
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace stablefs
