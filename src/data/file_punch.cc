// SPDX-License-Identifier: GPL-2.0-or-later
// Zeroing a range. Partial blocks at its edges are written to; whole blocks leave the cache and the
// extents with one transaction, so that what is dirty there holds back the size on disk, and those
// who wait for it, until then.
#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {

Status FileImpl::punch(uint64_t offset, uint64_t length, Timestamp now) {
  return zero(offset, length, true, now);
}

Status FileImpl::zero(uint64_t offset, uint64_t length, bool keep_size, Timestamp now) {
  if (length == 0) return {};
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) return ErrorCode::file_too_large;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  const uint64_t end = offset + length;
  const bool has_edges = offset % kBlockSize != 0 || end % kBlockSize != 0;
  if (has_edges) FS_TRY(context_.throttle());
  RangeTicket ticket(ranges_);
  const OwnedBlocks owned =
      acquire_range(ticket, RangeClass::truncate, offset, end, /*may_extend=*/!keep_size);
  Status status = clear_range(offset, end, now, owned);
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (status.ok() && !keep_size && end > size) status = grow(end, now, owned);
  release(ticket);
  if (has_edges) {
    context_.mark_dirty(schedule);
    if (context_.options().writeback_delay_ns == 0) {
      submit_range(offset / kBlockSize, blocks_for_bytes(end), kNoLimit);
    }
  }
  return status;
}

// Of the last block nothing behind the end of the file counts: it may go as a whole.
Status FileImpl::clear_range(uint64_t offset, uint64_t end, Timestamp now,
                             const OwnedBlocks& owned) {
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (offset < size) {
    const uint64_t last = std::min(end, size);
    const uint64_t head_end = std::min(round_up(offset), last);
    const uint64_t tail_start = std::max(round_down(last), head_end);
    if (offset < head_end) FS_TRY(clear_edge(offset, head_end, owned));
    if (end < size && tail_start < last) FS_TRY(clear_edge(tail_start, last, owned));
  }
  {
    // Before the transactions, which take them along.
    MutexLock lock(inode_.mutex);
    inode_.attributes.modify_time = inode_.attributes.change_time = now;
    inode_.item_dirty = true;
  }
  const uint64_t end_block = end < size ? end / kBlockSize : blocks_for_bytes(size);
  return unmap(blocks_for_bytes(offset), end_block, owned);
}

// Bytes of one block. Zeros in a hole need no block.
Status FileImpl::clear_edge(uint64_t offset, uint64_t end, const OwnedBlocks& owned) {
  if (FS_TRY(is_hole(offset / kBlockSize))) return {};
  return write_zeros(offset, end, owned);
}

Result<bool> FileImpl::is_hole(uint64_t block) {
  // What is in flight now may be mapped before we look, not the other way round.
  {
    MutexLock lock(mutex_);
    if (kUnsavedStates.has(pages_.state(block))) return false;
  }
  MutexLock attributes_lock(inode_.mutex);
  return FS_TRY(extents_.run_at(block)).kind != RunKind::written;
}

// In a chain of transactions without an intent: each takes some blocks out of the cache, too, so
// that one that is cut, or fails, leaves the rest as it was.
Status FileImpl::unmap(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned) {
  if (first_block >= end_block) return {};
  FS_TRY(wait_ordered(first_block, end_block, owned));
  while (first_block < end_block) first_block = FS_TRY(unmap_link(first_block, end_block));
  return {};
}

// Returns where to go on.
Result<uint64_t> FileImpl::unmap_link(uint64_t first_block, uint64_t end_block) {
  {
    MutexLock attributes_lock(inode_.mutex);
    InodeAttributes attributes = inode_.attributes;
    Transaction transaction;
    const ExtentMap::Removal removal =
        FS_TRY(extents_.remove(transaction, first_block, end_block, kLinkBytes));
    end_block = std::min(end_block, removal.next_block);
    FS_ASSERT(attributes.block_count >= removal.blocks_freed);
    attributes.block_count -= removal.blocks_freed;
    {
      // What never arrived there need not arrive any more.
      MutexLock lock(mutex_);
      uint64_t disk_size = size_;
      if (const auto lowest = tail_.lowest_outside(first_block, end_block)) {
        disk_size = std::min(disk_size, *lowest * kBlockSize);
      }
      attributes.disk_size_bytes = std::max(disk_size, disk_size_);
    }
    const bool changed = attributes.disk_size_bytes != inode_.attributes.disk_size_bytes;
    if (changed || removal.blocks_freed != 0) {
      transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
      const MappingChange change(inode_);
      inode_.last_sequence = FS_TRY(store_.commit(transaction, false));
      inode_.attributes = attributes;
      inode_.item_dirty = false;
    }
    context_.damage().forget(removal.healed);
    MutexLock lock(mutex_);
    remove_pages(first_block, end_block);
    tail_.erase(first_block, end_block);
    disk_size_moved(attributes.disk_size_bytes);
  }
  finish_held();
  context_.made_progress(schedule);
  return end_block;
}

}  // namespace stablefs
