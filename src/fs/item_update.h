// SPDX-License-Identifier: GPL-2.0-or-later
// One transaction on the items of a few inodes: takes their attribute mutexes in the order of their
// numbers, hands out copies to change, and makes the copies true when the commit has succeeded. A
// failed commit leaves everything as it was.
//
// The locks are held until the object is gone: link counts and the state of the contents that
// follows from them (InodeTable::set_contents) change together.
#pragma once

#include <initializer_list>

#include "base/result.h"
#include "fs/inode.h"
#include "store/store.h"
#include "store/transaction.h"

namespace stablefs {

class ItemUpdate {
 public:
  // Null pointers and repetitions are ignored.
  ItemUpdate(Store& store, std::initializer_list<Inode*> inodes);
  ~ItemUpdate();
  ItemUpdate(const ItemUpdate&) = delete;
  ItemUpdate& operator=(const ItemUpdate&) = delete;

  const InodeAttributes& get(Inode& inode) const;  // with the changes so far
  InodeAttributes& edit(Inode& inode);             // the commit puts the item
  InodeAttributes& put_new(Inode& inode);          // the item does not exist yet
  void erase(Inode& inode);                        // the commit erases the item
  // There is no item on disk: the inode was removed (or is not created yet), edits stay in memory.
  bool erased(Inode& inode) const;
  bool dirty(Inode& inode) const;  // InodeState::item_dirty

  Transaction& transaction() { return transaction_; }
  // Once. `grows` as in Store::commit.
  Status commit(bool grows);
  // Makes the edits of `inode` true in memory only and marks the item dirty: some later transaction
  // takes them along.
  void keep_in_memory(Inode& inode);

 private:
  enum class Item : uint8_t { unchanged, edited, created, erased };
  struct Entry {
    Inode* inode;
    InodeAttributes attributes;
    Item item;
  };
  static constexpr size_t kMaxInodes = 5;

  const Entry& entry(const Inode& inode) const;
  Entry& entry(const Inode& inode);

  Store& store_;
  Transaction transaction_;
  Entry entries_[kMaxInodes];
  size_t count_ = 0;
  bool committed_ = false;
};

}  // namespace stablefs
