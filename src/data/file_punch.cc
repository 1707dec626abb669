// SPDX-License-Identifier: GPL-2.0-or-later
// Zeroing a range. Partial blocks at its edges are written to; whole blocks leave the cache and the
// extents with one transaction, so that what is dirty there holds back the size on disk, and those
// who wait for it, until then. Their space is freed, or kept as unwritten blocks.
#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {
namespace {

// Written blocks that one link makes unwritten: they need as many new ones for a while.
constexpr uint64_t kUnwriteBlocks = 256;

}  // namespace

Status FileImpl::punch(uint64_t offset, uint64_t length, Timestamp now) {
  return clear(Clearing::free, offset, length, true, now);
}

Status FileImpl::zero(uint64_t offset, uint64_t length, bool keep_size, Timestamp now) {
  return clear(Clearing::keep, offset, length, keep_size, now);
}

Status FileImpl::clear(Clearing clearing, uint64_t offset, uint64_t length, bool keep_size,
                       Timestamp now) {
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
  Status status;
  if (clearing == Clearing::keep) {
    status = fill_holes(offset / kBlockSize, blocks_for_bytes(end), owned);
  }
  if (status.ok()) status = clear_range(clearing, offset, end, now, owned);
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

// Of the last block nothing behind the end of the file counts: it may go as a whole. What is
// allocated behind it goes, too, or is unwritten anyway.
Status FileImpl::clear_range(Clearing clearing, uint64_t offset, uint64_t end, Timestamp now,
                             const OwnedBlocks& owned) {
  uint64_t size = 0;
  {
    MutexLock lock(mutex_);
    size = size_;
  }
  if (offset < size) FS_TRY(clear_edges(offset, end, size, owned));
  touch(now);  // before the transactions, which take it along
  uint64_t end_block = end / kBlockSize;
  if (end >= size) {
    const uint64_t last = blocks_for_bytes(size);
    end_block = clearing == Clearing::keep ? last : std::max(end_block, last);
  }
  return clear_blocks(clearing, blocks_for_bytes(offset), end_block, owned);
}

Status FileImpl::clear_edges(uint64_t offset, uint64_t end, uint64_t size,
                             const OwnedBlocks& owned) {
  const uint64_t last = std::min(end, size);
  const uint64_t head_end = std::min(round_up(offset), last);
  const uint64_t tail_start = std::max(round_down(last), head_end);
  if (offset < head_end) FS_TRY(clear_edge(offset, head_end, owned));
  if (end < size && tail_start < last) FS_TRY(clear_edge(tail_start, last, owned));
  return {};
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
  return FS_TRY(committed_run(block, block + 1)).kind != RunKind::written;
}

// In a chain of transactions without an intent: each takes some blocks out of the cache, too, so
// that one that is cut, or fails, leaves the rest as it was.
Status FileImpl::clear_blocks(Clearing clearing, uint64_t first_block, uint64_t end_block,
                              const OwnedBlocks& owned) {
  if (first_block >= end_block) return {};
  FS_TRY(wait_ordered(first_block, end_block, owned));
  while (first_block < end_block) {
    first_block = clearing == Clearing::free ? FS_TRY(unmap_link(first_block, end_block))
                                             : FS_TRY(unwrite_link(first_block, end_block));
  }
  return {};
}

Result<uint64_t> FileImpl::unmap_link(uint64_t first_block, uint64_t end_block) {
  return clear_link(first_block, [&](Transaction& transaction) -> Result<Cleared> {
    ExtentMap::Removal removal =
        FS_TRY(extents_.remove(transaction, first_block, end_block, kLinkBytes));
    return Cleared{std::min(end_block, removal.next_block),
                   -static_cast<int64_t>(removal.blocks_freed), std::move(removal.healed),
                   std::move(removal.lock)};
  });
}

// Unwritten blocks in place of written ones are others: the old ones are intact until this link is
// durable, and nothing is written into the new ones that a crash could bring to light.
Result<uint64_t> FileImpl::unwrite_link(uint64_t first_block, uint64_t end_block) {
  const Run run = FS_TRY(committed_run(first_block, end_block));
  if (run.kind != RunKind::written) {
    return clear_link(first_block, [&](Transaction&) -> Result<Cleared> {
      return Cleared{.end_block = run.end_block()};
    });
  }
  SpaceReservation space = FS_TRY(reserve_unwritten(run));
  const BlockRange range = FS_TRY(store_.allocate(space, space.blocks(), run.lba));
  auto cleared = clear_link(first_block, [&](Transaction& transaction) -> Result<Cleared> {
    ExtentMap::Replacement put = FS_TRY(extents_.put_unwritten(transaction, first_block, range));
    return Cleared{first_block + range.length_blocks, put.block_delta, std::move(put.healed),
                   std::move(put.lock)};
  });
  if (!cleared.ok()) store_.give_back(range);
  return cleared;
}

// As many of the blocks as there are. On a full device each link waits for the commit of the one
// before, whose blocks it takes; other people's dirty pages are waited for only when nothing is
// left. What is shared frees nothing, so it is growth.
Result<SpaceReservation> FileImpl::reserve_unwritten(const Run& run) {
  const uint64_t freed = FS_TRY(extents_.count_freed(run));
  uint64_t blocks = std::min(freed == 0 ? run.length_blocks : freed, kUnwriteBlocks);
  if (freed == 0) {
    while (true) {
      auto reserved = store_.reserve_space(blocks, SpaceUse::growth);
      const bool full = !reserved.ok() && reserved.error().code() == ErrorCode::no_space;
      if (!full || blocks == 1) return reserved;
      blocks /= 2;
    }
  }
  for (; blocks > 1; blocks /= 2) {
    auto reserved = store_.reserve_space(blocks, SpaceUse::overwrite);
    if (reserved.ok() || reserved.error().code() != ErrorCode::no_space) return reserved;
  }
  return reserve_overwrite(1);
}

// Returns where to go on.
Result<uint64_t> FileImpl::clear_link(uint64_t first_block, const Clear& clear_extents) {
  uint64_t end_block = 0;
  {
    JournalReservation journal;
    MutexLock attributes_lock(inode_.mutex);
    FS_TRY(reserve_link(attributes_lock, journal));
    InodeAttributes attributes = inode_.attributes;
    Transaction transaction;
    const Cleared cleared = FS_TRY(clear_extents(transaction));
    end_block = cleared.end_block;
    attributes.block_count += static_cast<uint64_t>(cleared.block_delta);
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
    if (changed || !transaction.empty()) {
      transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
      const MappingChange change(inode_);
      inode_.last_sequence = FS_TRY(commit_link(transaction, journal, cleared.lock));
      inode_.attributes = attributes;
      inode_.item_dirty = false;
    }
    context_.damage().forget(cleared.healed);
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
