// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/orphans.h"

#include <fmt/format.h>

#include <cstring>

#include "base/assert.h"
#include "format/items.h"
#include "fs/item_update.h"
#include "fs/xattrs.h"

namespace stablefs {
namespace {

// Up to here the caller's thread frees the blocks itself: a few transactions.
constexpr uint64_t kReclaimAtOnceBlocks = 64ull << (20 - kBlockShift);
constexpr size_t kScanItems = 128;

}  // namespace

void Orphans::doom(Transaction& transaction, Ino ino) {
  DiskOrphan orphan{};
  orphan.intent = static_cast<uint8_t>(OrphanIntent::remove);
  transaction.put_struct(Key::global(ItemKind::orphan, ino.value), orphan);
}

void Orphans::spare(Transaction& transaction, Ino ino) {
  transaction.erase(Key::global(ItemKind::orphan, ino.value));
}

void Orphans::erase_target(Transaction& transaction, Ino ino, uint64_t length_bytes) {
  for (uint64_t offset = 0; offset < length_bytes; offset += kMaxValueBytes) {
    transaction.erase(Key(ino, ItemKind::inline_data, offset));
  }
}

Status Orphans::recover() {
  Key first = Key::global(ItemKind::orphan, 1);
  const Key last = Key::global(ItemKind::orphan, ~0ull);
  while (true) {
    const auto items = FS_TRY(store_.scan(first, last, kScanItems));
    for (const Item& item : items) {
      FS_TRY(validate_item(item.key, item.value, store_.interval()));
      DiskOrphan orphan;
      FS_ASSERT(item.value.size() == sizeof orphan);
      std::memcpy(&orphan, item.value.data(), sizeof orphan);
      const Ino ino(item.key.offset);
      if (static_cast<OrphanIntent>(orphan.intent) == OrphanIntent::truncate) {
        FS_TRY(finish_truncation(ino, orphan.start_block));
      } else {
        MutexLock lock(mutex_);
        recovered_.push_back(ino);
      }
    }
    if (items.size() < kScanItems) return {};
    first = items.back().key;
    ++first.offset;
  }
}

Status Orphans::finish_truncation(Ino ino, uint64_t start_block) {
  InodeRef inode = FS_TRY(inodes_.get_any(ino));
  if (!inode->is_regular())
    return Error(ErrorCode::item_invalid, key_to_text(Key(ino, ItemKind::inode, 0)));
  return inodes_.data_of(*inode).free_extents(
      start_block, [ino](Transaction& transaction) { spare(transaction, ino); });
}

void Orphans::start() {
  thread_ = Thread("fs-reaper", [this] { run(); });
}

void Orphans::stop() {
  std::deque<InodeRef> left;  // dropped without the lock
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
    idle_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  MutexLock lock(mutex_);
  left.swap(queue_);
  lock.unlock();
}

bool Orphans::drain() {
  MutexLock lock(mutex_);
  bool waited = false;
  while (!stopping_ && (busy_ || !queue_.empty() || !recovered_.empty())) {
    waited = true;
    idle_.wait(mutex_);
  }
  return waited;
}

uint64_t Orphans::queued() {
  MutexLock lock(mutex_);
  return queue_.size() + recovered_.size() + (busy_ ? 1 : 0);
}

void Orphans::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!stopping_ && queue_.empty() && recovered_.empty()) wake_.wait(mutex_);
    if (stopping_) return;
    InodeRef inode;
    Ino ino;
    if (!queue_.empty()) {
      inode = std::move(queue_.front());
      queue_.pop_front();
    } else {
      ino = recovered_.front();
      recovered_.pop_front();
    }
    busy_ = true;
    lock.unlock();
    if (inode) {
      remove_and_log(*inode);
    } else {
      remove_recovered(ino);
    }
    inode.reset();
    lock.lock();
    busy_ = false;
    if (queue_.empty() && recovered_.empty()) idle_.notify_all();
  }
}

void Orphans::reclaim(InodeRef inode) {
  uint64_t blocks = 0;
  {
    MutexLock lock(inode->state.mutex);
    blocks = inode->state.attributes.block_count;
  }
  if (blocks <= kReclaimAtOnceBlocks) {
    remove_and_log(*inode);
    return;
  }
  MutexLock lock(mutex_);
  if (stopping_) return;
  queue_.push_back(std::move(inode));
  wake_.notify_one();
}

void Orphans::remove_and_log(Inode& inode) {
  const Status removed = remove(inode);
  if (removed.ok()) {
    ++reclaimed_;
  } else {
    log(LogLevel::error, inode.ino(), "its removal is left to the next mount", removed.error());
  }
}

// As many transactions as it takes; the last items go with the inode.
Status Orphans::remove_xattrs(Inode& inode) {
  while (true) {
    Transaction transaction;
    const bool last =
        FS_TRY(Xattrs::erase_some(store_, transaction, inode.ino(), kXattrItemsAtOnce));
    if (last) return {};
    FS_TRY(store_.commit(transaction, false));
  }
}

Status Orphans::remove(Inode& inode) {
  if (inode.is_regular()) FS_TRY(inodes_.data_of(inode).remove_all());
  const bool has_xattrs = inode.xattrs != Known::no;
  if (has_xattrs) FS_TRY(remove_xattrs(inode));
  ItemUpdate update(store_, {&inode});
  if (has_xattrs) {
    FS_TRY(Xattrs::erase_some(store_, update.transaction(), inode.ino(), kXattrItemsAtOnce));
  }
  const InodeAttributes& attributes = update.get(inode);
  FS_ASSERT(attributes.link_count == 0);
  if (inode.is_symlink()) erase_target(update.transaction(), inode.ino(), attributes.size_bytes);
  spare(update.transaction(), inode.ino());
  update.erase(inode);
  FS_TRY(update.commit(false));
  inodes_.set_contents(inode, Contents::gone);
  // Nothing is left to write: no reason to stay in memory.
  inode.touched = false;
  return {};
}

void Orphans::remove_recovered(Ino ino) {
  auto inode = inodes_.get_any(ino);
  if (!inode.ok()) {
    log(LogLevel::error, ino, "cannot be removed", inode.error());
    return;
  }
  bool linked = false;
  {
    MutexLock lock((*inode)->state.mutex);
    linked = (*inode)->state.attributes.link_count != 0;
  }
  if (linked) {
    log(LogLevel::error, ino, "is not removed", Error(ErrorCode::item_invalid, "it has links"));
    return;
  }
  remove_and_log(**inode);
}

void Orphans::log(LogLevel level, Ino ino, const char* what, const Error& error) {
  logger_.write(level,
                fmt::format("inode {} without a name: {}: {}", ino.value, what, error.message()));
}

Result<ContentsUse> ContentsUse::begin(InodeTable& inodes, Orphans& orphans, InodeRef inode) {
  FS_TRY(inodes.open_contents(*inode));
  return ContentsUse(inodes, orphans, std::move(inode));
}

ContentsUse& ContentsUse::operator=(ContentsUse&& other) noexcept {
  if (this == &other) return *this;
  end();
  inodes_ = other.inodes_;
  orphans_ = other.orphans_;
  inode_ = std::move(other.inode_);
  return *this;
}

void ContentsUse::end() {
  if (!inode_) return;
  InodeRef inode = std::move(inode_);
  if (inodes_->close_contents(*inode)) orphans_->reclaim(std::move(inode));
}

}  // namespace stablefs
