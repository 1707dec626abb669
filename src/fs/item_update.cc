// SPDX-License-Identifier: GPL-2.0-or-later
// Which locks are held is decided at run time, which clang's analysis cannot follow: the functions
// here that touch guarded members are exempt, and `entry` asserts membership instead.
#include "fs/item_update.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "base/assert.h"

namespace stablefs {

ItemUpdate::ItemUpdate(Store& store,
                       std::initializer_list<Inode*> inodes) FS_NO_THREAD_SAFETY_ANALYSIS
    : store_(store) {
  FS_ASSERT(inodes.size() <= kMaxInodes);
  std::vector<Inode*> sorted;
  std::copy_if(inodes.begin(), inodes.end(), std::back_inserter(sorted),
               [](const Inode* inode) { return inode != nullptr; });
  std::sort(sorted.begin(), sorted.end(),
            [](const Inode* a, const Inode* b) { return a->ino() < b->ino(); });
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  for (Inode* inode : sorted) {
    inode->state.mutex.lock_same_rank();
    entries_[count_++] = {inode, inode->state.attributes, Item::unchanged};
  }
}

ItemUpdate::~ItemUpdate() FS_NO_THREAD_SAFETY_ANALYSIS {
  while (count_ > 0) entries_[--count_].inode->state.mutex.unlock();
}

const ItemUpdate::Entry& ItemUpdate::entry(const Inode& inode) const {
  const Entry* end = entries_ + count_;
  const Entry* found = std::find_if(
      entries_, end, [&](const Entry& candidate) { return candidate.inode == &inode; });
  FS_ASSERT(found != end);
  return *found;
}

ItemUpdate::Entry& ItemUpdate::entry(const Inode& inode) {
  return const_cast<Entry&>(std::as_const(*this).entry(inode));
}

const InodeAttributes& ItemUpdate::get(Inode& inode) const {
  return entry(inode).attributes;
}

InodeAttributes& ItemUpdate::edit(Inode& inode) {
  Entry& found = entry(inode);
  if (found.item == Item::unchanged) found.item = Item::edited;
  return found.attributes;
}

InodeAttributes& ItemUpdate::put_new(Inode& inode) {
  FS_ASSERT(erased(inode));
  Entry& found = entry(inode);
  found.item = Item::created;
  return found.attributes;
}

void ItemUpdate::erase(Inode& inode) {
  FS_ASSERT(!erased(inode));
  entry(inode).item = Item::erased;
}

bool ItemUpdate::erased(Inode& inode) const FS_NO_THREAD_SAFETY_ANALYSIS {
  return entry(inode).inode->erased;
}

bool ItemUpdate::dirty(Inode& inode) const FS_NO_THREAD_SAFETY_ANALYSIS {
  return entry(inode).inode->state.item_dirty;
}

Status ItemUpdate::commit(bool grows) FS_NO_THREAD_SAFETY_ANALYSIS {
  FS_ASSERT(!committed_);
  for (size_t i = 0; i < count_; ++i) {
    const Entry& changed = entries_[i];
    const Key key(changed.inode->ino(), ItemKind::inode, 0);
    const bool put =
        changed.item == Item::created || (changed.item == Item::edited && !changed.inode->erased);
    if (put) transaction_.put_struct(key, to_disk(changed.attributes));
    if (changed.item == Item::erased) transaction_.erase(key);
  }
  Sequence sequence;
  if (!transaction_.empty()) sequence = FS_TRY(store_.commit(transaction_, grows));
  committed_ = true;
  for (size_t i = 0; i < count_; ++i) {
    const Entry& changed = entries_[i];
    if (changed.item == Item::unchanged) continue;
    InodeState& state = changed.inode->state;
    state.attributes = changed.attributes;
    state.item_dirty = false;
    if (sequence > state.last_sequence) state.last_sequence = sequence;
    if (changed.item == Item::created) changed.inode->erased = false;
    if (changed.item == Item::erased) changed.inode->erased = true;
  }
  return {};
}

void ItemUpdate::keep_in_memory(Inode& inode) FS_NO_THREAD_SAFETY_ANALYSIS {
  Entry& found = entry(inode);
  inode.state.attributes = found.attributes;
  if (!inode.erased) inode.state.item_dirty = true;
  found.item = Item::unchanged;
}

}  // namespace stablefs
