// SPDX-License-Identifier: GPL-2.0-or-later
// Who may change what several files own together: reference items, the tuples of shared blocks,
// entries of the damage list for blocks that are, or were, shared.
//
// A block has one owner until somebody who holds the owner's attributes mutex shares it. So a
// transaction on an inode that finds no reference item for a block, under that mutex, is alone with
// the block and needs no more. Everything else happens under the one lock here, from looking at the
// reference items until the commit has returned. For that to be enough, the tuples of blocks that
// are shared, or of different owners, are never in one item: sharing and ceasing to share cut
// tuples items where they cut reference items.
//
// Whoever holds it does not wait for journal space, because who has that space may wait for it.
#pragma once

#include <atomic>
#include <utility>

#include "base/sync.h"
#include "store/store.h"

namespace stablefs {

class Sharing {
 public:
  explicit Sharing(Store& store);

  // False: no block of the filesystem has ever had two owners since it was mounted.
  bool any() const { return any_.load(std::memory_order_acquire); }
  void begin() { any_.store(true, std::memory_order_release); }

 private:
  friend class SharingLock;
  // Of the rank of inodes' mutexes, and taken after all of those.
  Mutex mutex_{LockRank::attributes, "shared blocks"};
  std::atomic<bool> any_{true};
};

// Holds the lock, or nothing. Movable.
class SharingLock {
 public:
  SharingLock() = default;
  SharingLock(SharingLock&& other) noexcept : sharing_(std::exchange(other.sharing_, nullptr)) {}
  SharingLock& operator=(SharingLock&& other) noexcept;
  ~SharingLock() { release(); }

  void take(Sharing& sharing);  // once more is nothing
  void release();
  bool held() const { return sharing_ != nullptr; }

 private:
  Sharing* sharing_ = nullptr;
};

}  // namespace stablefs
