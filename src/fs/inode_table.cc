// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/inode_table.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "format/items.h"

namespace stablefs {

InodeRef& InodeRef::operator=(InodeRef&& other) noexcept {
  if (this == &other) return *this;
  reset();
  table_ = other.table_;
  inode_ = std::exchange(other.inode_, nullptr);
  return *this;
}

InodeRef InodeRef::share() const {
  FS_ASSERT(inode_ != nullptr);
  table_->pin(*inode_);
  return InodeRef(table_, inode_);
}

void InodeRef::reset() {
  if (Inode* inode = std::exchange(inode_, nullptr)) table_->unpin(*inode);
}

InodeTable::~InodeTable() {
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (auto& [ino, slot] : shard.slots) {
      FS_ASSERT(slot.inode != nullptr);
      FS_ASSERT(slot.inode->counts.pins == 0);
    }
  }
}

FileData& InodeTable::data_of(Inode& inode) {
  FS_ASSERT(inode.is_regular());
  if (FileData* data = inode.data()) return *data;
  // Opening takes locks of the data layer, so two threads may do it; one of them throws its away
  // before anybody has used it.
  std::unique_ptr<FileData> opened = data_.open(inode.state);
  FileData* expected = nullptr;
  if (!inode.used_data.compare_exchange_strong(expected, opened.get())) return *expected;
  return *opened.release();
}

Result<std::unique_ptr<Inode>> InodeTable::load(Ino ino) {
  if (ino.value == kGlobalObject || ino.value >= 1ull << 63) return ErrorCode::stale_inode;
  const Key key(ino, ItemKind::inode, 0);
  const auto value = FS_TRY(store_.get(key));
  if (!value) return ErrorCode::stale_inode;
  FS_TRY(validate_item(key, *value, store_.interval()));
  DiskInode item;
  FS_ASSERT(value->size() == sizeof item);
  std::memcpy(&item, value->data(), sizeof item);
  auto inode = std::make_unique<Inode>(ino, from_disk(item));
  MutexLock lock(inode->state.mutex);
  // Which transaction put the item is not known any more, only that it was not a later one: fsync
  // of a file that was forgotten and found again must still wait for its creation.
  inode->state.last_sequence = store_.last_sequence();
  // Only recovery has business with an inode that came without a name.
  if (item.link_count == 0) inode->counts.contents = Contents::reclaiming;
  return inode;
}

Result<InodeRef> InodeTable::get(Ino ino) {
  InodeRef inode = FS_TRY(get_any(ino));
  if (!reachable(*inode)) return ErrorCode::stale_inode;
  return inode;
}

Result<InodeRef> InodeTable::get_any(Ino ino) {
  Shard& shard = shard_of(ino);
  MutexLock lock(shard.mutex);
  while (true) {
    const auto found = shard.slots.find(ino);
    if (found == shard.slots.end()) break;
    if (Inode* inode = found->second.inode.get()) {
      ++inode->counts.pins;
      return InodeRef(this, inode);
    }
    shard.loaded.wait(shard.mutex);
  }
  shard.slots.emplace(ino, Slot{});
  lock.unlock();
  auto inode = load(ino);
  lock.lock();
  shard.loaded.notify_all();
  const auto slot = shard.slots.find(ino);
  FS_ASSERT(slot != shard.slots.end() && slot->second.inode == nullptr);
  if (!inode.ok()) {
    shard.slots.erase(slot);
    return inode.error();
  }
  slot->second.inode = std::move(inode).value();
  slot->second.inode->counts.pins = 1;
  return InodeRef(this, slot->second.inode.get());
}

InodeRef InodeTable::find(Ino ino) {
  Shard& shard = shard_of(ino);
  MutexLock lock(shard.mutex);
  const auto found = shard.slots.find(ino);
  if (found == shard.slots.end() || found->second.inode == nullptr) return {};
  ++found->second.inode->counts.pins;
  return InodeRef(this, found->second.inode.get());
}

InodeRef InodeTable::insert_new(Ino ino, const InodeAttributes& attributes) {
  auto inode = std::make_unique<Inode>(ino, attributes);
  Inode* raw = inode.get();
  raw->xattrs = raw->capability = Known::no;
  raw->counts.pins = 1;
  raw->counts.contents = Contents::reclaiming;
  {
    MutexLock lock(raw->state.mutex);
    raw->erased = true;
  }
  Shard& shard = shard_of(ino);
  MutexLock lock(shard.mutex);
  // A file handle with a guessed number may be looking for it right now; it finds nothing.
  while (shard.slots.contains(ino)) {
    FS_ASSERT(shard.slots.at(ino).inode == nullptr);
    shard.loaded.wait(shard.mutex);
  }
  shard.slots.emplace(ino, Slot{std::move(inode)});
  return InodeRef(this, raw);
}

bool InodeTable::idle(const Inode& inode) {
  const Inode::Counts& counts = inode.counts;
  return counts.pins == 0 && counts.lookups == 0 && counts.opens == 0 && !inode.touched;
}

void InodeTable::pin(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  FS_ASSERT(inode.counts.pins > 0);
  ++inode.counts.pins;
}

void InodeTable::unpin(Inode& inode) {
  std::unique_ptr<Inode> dropped;  // destroyed after the lock is gone
  Shard& shard = shard_of(inode.ino());
  MutexLock lock(shard.mutex);
  FS_ASSERT(inode.counts.pins > 0);
  --inode.counts.pins;
  if (!idle(inode)) return;
  const auto slot = shard.slots.find(inode.ino());
  FS_ASSERT(slot != shard.slots.end() && slot->second.inode.get() == &inode);
  dropped = std::move(slot->second.inode);
  shard.slots.erase(slot);
  lock.unlock();
}

void InodeTable::add_lookup(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  ++inode.counts.lookups;
}

InodeRef InodeTable::forget(Ino ino, uint64_t lookups) {
  InodeRef inode = find(ino);
  if (!inode) return {};
  MutexLock lock(shard_of(ino).mutex);
  // The count comes from the kernel: more than it was given is nonsense, not a reason to stop.
  inode->counts.lookups -= std::min(inode->counts.lookups, lookups);
  if (!begin_reclaiming(*inode)) return {};
  lock.unlock();
  return inode;
}

std::vector<InodeRef> InodeTable::forget_all() {
  std::vector<InodeRef> unused;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    for (auto& [ino, slot] : shard.slots) {
      Inode* inode = slot.inode.get();
      if (inode == nullptr) continue;
      inode->counts.lookups = 0;
      if (!begin_reclaiming(*inode)) continue;
      ++inode->counts.pins;
      unused.push_back(InodeRef(this, inode));
    }
  }
  return unused;
}

bool InodeTable::begin_reclaiming(Inode& inode) {
  Inode::Counts& counts = inode.counts;
  if (counts.contents != Contents::doomed || counts.lookups + counts.opens != 0) return false;
  counts.contents = Contents::reclaiming;
  return true;
}

Status InodeTable::open_contents(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  const Contents contents = inode.counts.contents;
  if (contents == Contents::reclaiming || contents == Contents::gone) return ErrorCode::stale_inode;
  ++inode.counts.opens;
  return {};
}

bool InodeTable::close_contents(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  FS_ASSERT(inode.counts.opens > 0);
  --inode.counts.opens;
  return begin_reclaiming(inode);
}

bool InodeTable::claim_contents(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  FS_ASSERT(inode.counts.opens > 0);
  if (inode.counts.opens != 1 || inode.counts.lookups != 0) return false;
  inode.counts.contents = Contents::reclaiming;
  return true;
}

void InodeTable::set_contents(Inode& inode, Contents contents) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  inode.counts.contents = contents;
}

Contents InodeTable::contents(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  return inode.counts.contents;
}

bool InodeTable::reachable(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  const Inode::Counts& counts = inode.counts;
  const bool has_contents =
      counts.contents == Contents::linked || counts.contents == Contents::doomed;
  return has_contents || counts.lookups != 0 || counts.opens != 0;
}

bool InodeTable::referenced(Inode& inode) {
  MutexLock lock(shard_of(inode.ino()).mutex);
  return inode.counts.lookups != 0 || inode.counts.opens != 0;
}

size_t InodeTable::size() {
  size_t total = 0;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mutex);
    total += shard.slots.size();
  }
  return total;
}

}  // namespace stablefs
