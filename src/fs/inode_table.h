// SPDX-License-Identifier: GPL-2.0-or-later
// The inodes in memory: loaded from the store on demand, at most one object a number, dropped when
// nobody pins, knows or has opened them and nothing waits to be written.
//
// No I/O happens under a shard's mutex: a number that is being loaded is marked, others wait.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/sync.h"
#include "data/file_data.h"
#include "fs/inode.h"
#include "store/store.h"

namespace stablefs {

class InodeTable;

// Keeps an inode in memory. Movable; dropping the last one may drop the inode.
class InodeRef {
 public:
  InodeRef() = default;
  InodeRef(InodeRef&& other) noexcept
      : table_(other.table_), inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef& operator=(InodeRef&& other) noexcept;
  ~InodeRef() { reset(); }

  explicit operator bool() const { return inode_ != nullptr; }
  Inode* operator->() const { return inode_; }
  Inode& operator*() const { return *inode_; }
  Inode* get() const { return inode_; }
  InodeRef share() const;
  void reset();

 private:
  friend class InodeTable;
  InodeRef(InodeTable* table, Inode* inode) : table_(table), inode_(inode) {}
  InodeTable* table_ = nullptr;
  Inode* inode_ = nullptr;
};

class InodeTable {
 public:
  InodeTable(Store& store, DataContext& data) : store_(store), data_(data) {}
  ~InodeTable();

  // stale_inode when there is no such inode, or nobody may know of it: not yet created, or removed
  // and forgotten. One that is removed but still known to the kernel can be had (stat of it).
  Result<InodeRef> get(Ino ino);
  Result<InodeRef> get_any(Ino ino);  // also those: for recovery
  // Only when it is in memory; never waits.
  InodeRef find(Ino ino);
  // A number fresh from Store::new_ino. Nobody can use the inode before ItemUpdate::put_new was
  // committed and set_contents called.
  InodeRef insert_new(Ino ino, const InodeAttributes& attributes);

  void add_lookup(Inode& inode);
  // An inode comes back when this was the last use of a doomed one: it is the caller who removes
  // it.
  [[nodiscard]] InodeRef forget(Ino ino, uint64_t lookups);
  // Of everything; all that come back are the caller's to remove.
  [[nodiscard]] std::vector<InodeRef> forget_all();

  FileData& data_of(Inode& inode);  // of a regular file; made at the first use

  // --- use of the contents
  // stale_inode when they are being removed.
  Status open_contents(Inode& inode);
  // True: this was the last use of a doomed inode; it is the caller who removes it.
  bool close_contents(Inode& inode);
  // The caller's use is the only one, and the kernel does not know the inode: nobody gets in until
  // `set_contents`.
  bool claim_contents(Inode& inode);
  void set_contents(Inode& inode, Contents contents);
  Contents contents(Inode& inode);
  bool referenced(Inode& inode);  // known to the kernel or open

  size_t size();

 private:
  friend class InodeRef;
  struct Slot {
    std::unique_ptr<Inode> inode;  // nothing: being loaded
  };
  struct Shard {
    Mutex mutex{LockRank::inode_table, "inode table"};
    CondVar loaded;
    std::unordered_map<Ino, Slot> slots FS_GUARDED_BY(mutex);
  };
  static constexpr size_t kShards = 32;

  Shard& shard_of(Ino ino) { return shards_[std::hash<Ino>{}(ino) >> 59]; }
  Result<std::unique_ptr<Inode>> load(Ino ino);
  bool reachable(Inode& inode);
  // By a holder of the shard's mutex.
  static bool begin_reclaiming(Inode& inode);
  void pin(Inode& inode);
  void unpin(Inode& inode);
  static bool idle(const Inode& inode);

  Store& store_;
  DataContext& data_;
  std::array<Shard, kShards> shards_;
};

}  // namespace stablefs
