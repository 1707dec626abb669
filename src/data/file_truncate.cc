// SPDX-License-Identifier: GPL-2.0-or-later
// Size changes and freeing. Everything from the smaller of both sizes on belongs to a truncate
// ticket; ordered extents there have ended before size and extents are looked at.
#include <algorithm>
#include <cstring>

#include "data/file_impl.h"

namespace stablefs {
namespace {

Key orphan_key(Ino ino) {
  return Key::global(ItemKind::orphan, ino.value);
}

Result<std::optional<OrphanIntent>> orphan_intent(Store& store, Ino ino) {
  const auto value = FS_TRY(store.get(orphan_key(ino)));
  if (!value) return std::optional<OrphanIntent>();
  DiskOrphan orphan;
  if (value->size() != sizeof orphan) return ErrorCode::item_invalid;
  std::memcpy(&orphan, value->data(), sizeof orphan);
  return std::optional(static_cast<OrphanIntent>(orphan.intent));
}

}  // namespace

Status FileImpl::truncate(uint64_t size_bytes, Timestamp now) {
  if (size_bytes > kMaxFileBytes) return ErrorCode::file_too_large;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  RangeTicket ticket(ranges_);
  const uint64_t start = acquire_for_truncate(ticket, size_bytes);
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  const OwnedBlocks owned{.first = start / kBlockSize};
  const Status status =
      size_bytes > size ? grow(size_bytes, now, owned) : shrink(size_bytes, now, owned);
  release(ticket);
  return status;
}

uint64_t FileImpl::acquire_for_truncate(RangeTicket& ticket, uint64_t size_bytes) {
  while (true) {
    uint64_t start = 0;
    {
      MutexLock lock(mutex_);
      start = round_down(std::min(size_, size_bytes));
    }
    ticket.acquire(RangeClass::truncate, start, kNoLimit);
    {
      MutexLock lock(mutex_);
      if (round_down(std::min(size_, size_bytes)) >= start) return start;
    }
    release(ticket);
  }
}

// Writeback that met the ticket waits for progress.
void FileImpl::release(RangeTicket& ticket) {
  ticket.release();
  context_.made_progress(schedule);
}

Status FileImpl::shrink(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned) {
  uint64_t free_from = blocks_for_bytes(size_bytes);
  {
    MutexLock lock(mutex_);
    ++shrinks_begun_;
  }
  const Status cut = cut_off(size_bytes, now, owned, free_from);
  {
    MutexLock lock(mutex_);
    ++shrinks_ended_;
  }
  if (!cut.ok() || free_from == kEndOfFileBlocks) return cut;
  return free_chain(free_from, [this](Transaction& transaction) -> Status {
    // An unlink in between has put its own intent there, which covers ours.
    if (FS_TRY(orphan_intent(store_, inode_.ino)) == OrphanIntent::truncate) {
      transaction.erase(orphan_key(inode_.ino));
    }
    return {};
  });
}

// What is in flight across the new end is still mapped with the old size: were the size smaller
// before the transaction that frees what lies behind it, a crash in between would leave that there.
Status FileImpl::cut_off(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned,
                         uint64_t& free_from) {
  Status status = cancel_from(free_from);
  if (status.ok()) status = wait_ordered(size_bytes / kBlockSize, kNoLimit, owned);
  if (status.ok()) status = write_back_below(free_from, owned);
  {
    MutexLock lock(mutex_);
    size_ = size_bytes;
    zero_in_cache(size_bytes);
    tail_.erase(free_from, kNoLimit);
    remove_pages(free_from, kNoLimit);
    cut_from_ = kNoLimit;
  }
  if (!status.ok()) return status;
  return commit_size(size_bytes, now, free_from);
}

// A sync beside us may have waited for pages that we dropped: it was promised the size they gave
// the file, as far as we leave it. Blocks below that never arrived would hold our size on disk
// back.
Status FileImpl::write_back_below(uint64_t end_block, const OwnedBlocks& owned) {
  while (true) {
    const uint64_t seen = context_.progress(schedule);
    finish_completed();
    uint64_t lowest = end_block;
    {
      MutexLock lock(mutex_);
      if (write_backs_ != 0) lowest = tail_.lowest().value_or(end_block);
      if (lowest >= end_block) return {};
      if (!kUncommittedStates.has(pages_.state(lowest))) return {};  // lost, and told elsewhere
    }
    if (submit_range(lowest, end_block, kNoLimit, owned).any) continue;
    FS_TRY(context_.wait(schedule, seen));
  }
}

// Until a truncation is committed, what it has dropped is neither on the device nor cut off.
Status FileImpl::wait_for_shrinks() {
  uint64_t begun = 0;
  {
    MutexLock lock(mutex_);
    begun = shrinks_begun_;
  }
  while (true) {
    const uint64_t seen = context_.progress(schedule);
    finish_completed();
    {
      MutexLock lock(mutex_);
      if (shrinks_ended_ >= begun) return {};
    }
    FS_TRY(context_.wait(schedule, seen));
  }
}

Status FileImpl::grow(uint64_t size_bytes, Timestamp now, const OwnedBlocks& owned) {
  FS_TRY(zero_edge());
  uint64_t stamp = 0, first_block = 0;
  bool wait = false;
  {
    MutexLock lock(mutex_);
    stamp = stamp_;
    first_block = disk_size_ / kBlockSize;
    wait = !tail_.empty();
  }
  if (wait) {
    const uint64_t errors = errors_.load();
    submit_range(first_block, kNoLimit, stamp, owned);
    FS_TRY(wait_committed(first_block, stamp, owned));
    if (errors_.load() != errors) return ErrorCode::writeback_failed;
  }
  uint64_t free_from = kEndOfFileBlocks;
  return commit_size(size_bytes, now, free_from);
}

// One transaction with the size and, if they fit, all frees; else `free_from` is where to go on,
// and an orphan item says so to a recovery.
Status FileImpl::commit_size(uint64_t size_bytes, Timestamp now, uint64_t& free_from) {
  JournalReservation journal;
  MutexLock attributes_lock(inode_.mutex);
  FS_TRY(reserve_link(attributes_lock, journal));
  uint64_t disk_size = size_bytes;
  {
    MutexLock lock(mutex_);
    if (const auto lowest = tail_.lowest()) {
      disk_size = std::min(size_bytes, std::max(disk_size_, *lowest * kBlockSize));
    }
  }
  InodeAttributes attributes = inode_.attributes;
  attributes.size_bytes = size_bytes;
  attributes.disk_size_bytes = disk_size;
  attributes.modify_time = attributes.change_time = now;
  Transaction transaction;
  ExtentMap::Removal removal;
  if (free_from != kEndOfFileBlocks) {
    removal = FS_TRY(extents_.remove(transaction, free_from, kEndOfFileBlocks, kLinkBytes));
    FS_ASSERT(attributes.block_count >= removal.blocks_freed);
    attributes.block_count -= removal.blocks_freed;
    free_from = removal.next_block;
    if (free_from != kEndOfFileBlocks && !FS_TRY(orphan_intent(store_, inode_.ino))) {
      DiskOrphan orphan{};
      orphan.intent = static_cast<uint8_t>(OrphanIntent::truncate);
      orphan.start_block = blocks_for_bytes(size_bytes);
      transaction.put_struct(orphan_key(inode_.ino), orphan);
    }
  }
  transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
  {
    const MappingChange change(inode_);
    inode_.last_sequence = FS_TRY(commit_link(transaction, journal, removal.lock));
  }
  inode_.attributes = attributes;
  inode_.item_dirty = false;
  context_.damage().forget(removal.healed);
  MutexLock lock(mutex_);
  size_ = size_bytes;
  disk_size_moved(disk_size);
  return {};
}

// Drops what is only in memory from `first_block` on; what is in flight there will not be mapped.
// It stays in tail_: meanwhile no size on disk may pass what never arrives.
Status FileImpl::cancel_from(uint64_t first_block) {
  std::vector<OrderedIo*> ended;
  {
    MutexLock lock(mutex_);
    cut_from_ = first_block;
    for (auto at = ordered_.lower_bound(first_block); at != ordered_.end(); ++at) {
      at->second->cancelled = true;
      if (held_.erase(at->first) != 0) ended.push_back(at->second.get());
    }
    remove_pages(first_block, kNoLimit);
  }
  for (OrderedIo* io : ended) finish(*io);
  context_.made_progress(schedule);
  if (context_.abandoned()) return ErrorCode::shut_down;
  return {};
}

void FileImpl::remove_pages(uint64_t first_block, uint64_t end_block) {
  for (uint64_t from = first_block; const auto next = pages_.next(from, kPresentStates);) {
    const uint64_t block = *next;
    if (block >= end_block) break;
    from = block + 1;
    Page* page = pages_.find(block);
    if (page->state == PageState::writeback) continue;  // removed when its I/O is over
    if (page_is_dirty(page->state)) release_promise(block);
    page = transition(block, PageEvent::remove);
    if (page != nullptr) page->dirty_stamp = 0;
  }
}

// Of a dirty page that will not be written.
void FileImpl::release_promise(uint64_t block) {
  if (in_place_.contains(block)) {
    in_place_.erase(block, block + 1);
  } else {
    promised_.split(1).release();
  }
}

Result<JournalReservation> FileImpl::reserve_link() {
  // What a commit without a reservation does by itself.
  if (store_.gauges().nodes_dirty >= store_.superblock().dirty_node_limit) {
    FS_TRY(store_.checkpoint());
  }
  return store_.reserve_journal(kLinkBytesMax);
}

// Where blocks are shared, a link holds a lock that somebody with journal space may wait for. Only
// under the mutex what there is of that stays so: without it somebody may begin to share our
// blocks, or put one on the damage list, whose entries are guarded by that lock, too.
Status FileImpl::reserve_link(MutexLock& attributes_lock,
                              JournalReservation& journal) FS_NO_THREAD_SAFETY_ANALYSIS {
  while (!journal.held() && (extents_.may_share() || !context_.damage().empty())) {
    attributes_lock.unlock();
    journal = FS_TRY(reserve_link());
    attributes_lock.lock();
  }
  return {};
}

Result<Sequence> FileImpl::commit_link(const Transaction& transaction, JournalReservation& journal,
                                       const SharingLock& shared) {
  FS_ASSERT(journal.held() || !shared.held());
  if (transaction.size_bytes() > kLinkBytesMax) journal.release();
  return store_.commit(transaction, false, journal.held() ? &journal : nullptr);
}

Status FileImpl::free_chain(uint64_t start_block, const std::function<Status(Transaction&)>& last) {
  while (start_block != kEndOfFileBlocks) {
    JournalReservation journal;
    MutexLock attributes_lock(inode_.mutex);
    FS_TRY(reserve_link(attributes_lock, journal));
    InodeAttributes attributes = inode_.attributes;
    Transaction transaction;
    const ExtentMap::Removal removal =
        FS_TRY(extents_.remove(transaction, start_block, kEndOfFileBlocks, kLinkBytes));
    start_block = removal.next_block;
    FS_ASSERT(attributes.block_count >= removal.blocks_freed);
    attributes.block_count -= removal.blocks_freed;
    if (removal.blocks_freed != 0) {
      transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
    }
    if (start_block == kEndOfFileBlocks && last) FS_TRY(last(transaction));
    if (transaction.empty()) return {};
    const MappingChange change(inode_);
    const Sequence sequence = FS_TRY(commit_link(transaction, journal, removal.lock));
    if (removal.blocks_freed == 0) return {};
    inode_.attributes = attributes;
    inode_.item_dirty = false;
    inode_.last_sequence = sequence;
    context_.damage().forget(removal.healed);
  }
  return {};
}

Status FileImpl::remove_all() {
  RangeTicket ticket(ranges_, RangeClass::truncate, 0, kNoLimit);
  const Status status = [this]() -> Status {
    FS_TRY(cancel_from(0));
    FS_TRY(wait_ordered(0, kNoLimit, {.first = 0}));
    {
      MutexLock lock(mutex_);
      tail_.clear();
      remove_pages(0, kNoLimit);
      cut_from_ = kNoLimit;
    }
    return free_chain(0, {});
  }();
  release(ticket);
  return status;
}

Status FileImpl::free_extents(uint64_t start_block, const std::function<void(Transaction&)>& last) {
  const uint64_t first_byte = std::min(start_block, kMaxFileBytes / kBlockSize) * kBlockSize;
  RangeTicket ticket(ranges_, RangeClass::truncate, first_byte, kNoLimit);
  const Status status = free_chain(start_block, [&last](Transaction& transaction) -> Status {
    if (last) last(transaction);
    return {};
  });
  release(ticket);
  return status;
}

}  // namespace stablefs
