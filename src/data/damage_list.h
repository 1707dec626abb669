// SPDX-License-Identifier: GPL-2.0-or-later
// The damage list of a mounted filesystem: what is on disk as items, held in memory as well, so
// that freeing blocks costs nothing while nothing is damaged.
//
// Entries of an inode's blocks come and go under its InodeState::mutex, as the extents that map the
// blocks do: no entry outlives the mapping of its block.
#pragma once

#include <atomic>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/sync.h"
#include "data/sharing.h"
#include "store/damage.h"
#include "store/paths.h"
#include "store/store.h"

namespace stablefs {

class DamageList {
 public:
  struct Options {
    Logger* logger = nullptr;
    Health* health = nullptr;
    bool read_only = false;      // entries are kept in memory only
    Sharing* sharing = nullptr;  // null where no block ever has several owners
  };
  DamageList(Store& store, const Options& options);

  enum class Added : uint8_t { fresh, known, refused };  // refused: the list is full
  // Puts the item by a transaction of its own, as far as the filesystem may be changed. The caller
  // holds the mutex of the inode and knows that the block is still mapped.
  Added add(const DamageEntry& entry);

  bool empty() const { return size() == 0; }
  uint64_t size() const { return size_.load(std::memory_order_relaxed); }
  uint64_t count(BlockRange range) const;
  // The blocks are freed by `transaction`: erases their entries with it. What `erased` has must be
  // forgotten when the transaction is committed.
  void erase(Transaction& transaction, BlockRange range, std::vector<Lba>& erased) const;
  void forget(std::span<const Lba> blocks);
  // `transaction` takes the blocks from `ino`, but others map them too: what was seen there is not
  // there any more.
  void pass_on(Transaction& transaction, BlockRange range, Ino ino);
  // Erases these entries, which are of one inode; the caller holds its mutex.
  Status clear(std::span<const Lba> blocks);

  // In order of their addresses, without paths.
  std::vector<DamageEntry> list(Lba from, size_t limit) const;
  // For the log: found quickly or not at all.
  std::optional<std::string> path_for_log(Ino ino);

 private:
  struct Known {
    DamageEntry entry;
    bool stored = false;  // as an item
  };
  void load();
  void insert(const DamageEntry& entry, bool stored);
  bool may_store() const;
  Status reserve(uint64_t bytes, JournalReservation& journal, SharingLock& shared);
  bool store_item(const DamageEntry& entry, JournalReservation& journal);
  Status commit(const Transaction& transaction, JournalReservation& journal);

  Store& store_;
  const Options options_;
  std::atomic<uint64_t> size_{0};
  mutable Mutex mutex_{LockRank::leaf, "damage list"};
  std::map<Lba, Known> known_ FS_GUARDED_BY(mutex_);
  // Damage comes in files rather than in single blocks.
  Ino last_ino_ FS_GUARDED_BY(mutex_);
  EntryPlace last_place_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
