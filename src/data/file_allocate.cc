// SPDX-License-Identifier: GPL-2.0-or-later
// Preallocation: holes become unwritten extents, which have their blocks and read as zeros. Data is
// written into them in place (writeback.cc), so it needs no space any more.
#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {

Status FileImpl::allocate(uint64_t offset, uint64_t length, bool keep_size, Timestamp now) {
  if (length == 0) return {};
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) return ErrorCode::file_too_large;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  const uint64_t end = offset + length;
  RangeTicket ticket(ranges_);
  const OwnedBlocks owned =
      acquire_range(ticket, RangeClass::truncate, offset, end, /*may_extend=*/!keep_size);
  Status status = fill_holes(offset / kBlockSize, blocks_for_bytes(end), owned);
  if (status.ok()) {
    touch(now);
    uint64_t size = 0;
    {
      MutexLock lock(mutex_);
      size = size_;
    }
    if (!keep_size && end > size) status = grow(end, now, owned);
  }
  release(ticket);
  return status;
}

void FileImpl::touch(Timestamp now) {
  MutexLock lock(inode_.mutex);
  inode_.attributes.modify_time = inode_.attributes.change_time = now;
  inode_.item_dirty = true;
}

// All or nothing as far as space goes: it is promised before the first block is taken. What is in
// flight there is mapped first; what is dirty stays so and goes into the new blocks later.
Status FileImpl::fill_holes(uint64_t first_block, uint64_t end_block, const OwnedBlocks& owned) {
  FS_TRY(wait_ordered(first_block, end_block, owned));
  auto space = reserve_holes(first_block, end_block);
  if (!space.ok() && space.error().code() == ErrorCode::no_space) {
    // Dirty pages in holes have promises of their own: written back, they are holes no more.
    if (!submit_range(first_block, end_block, kNoLimit, owned).any) return space.error();
    FS_TRY(wait_ordered(first_block, end_block, owned));
    space = reserve_holes(first_block, end_block);
  }
  if (!space.ok()) return space.error();
  for (uint64_t block = first_block; block < end_block;) {
    block = FS_TRY(fill_link(block, end_block, *space));
  }
  return {};
}

// Without tuples, and ending at `end_block`.
Result<Run> FileImpl::committed_run(uint64_t block, uint64_t end_block) {
  MutexLock attributes_lock(inode_.mutex);
  Run run = FS_TRY(extents_.run_at(block));
  run.length_blocks = std::min(run.end_block(), end_block) - block;
  return run;
}

Result<SpaceReservation> FileImpl::reserve_holes(uint64_t first_block, uint64_t end_block) {
  uint64_t holes = 0;
  for (uint64_t block = first_block; block < end_block;) {
    const Run run = FS_TRY(committed_run(block, end_block));
    if (run.kind == RunKind::hole) holes += run.length_blocks;
    block = run.end_block();
  }
  if (holes == 0) return SpaceReservation();
  if (holes > store_.space_usage().total_blocks) return ErrorCode::no_space;
  return store_.reserve_space(holes, SpaceUse::growth);
}

// Returns where to go on.
Result<uint64_t> FileImpl::fill_link(uint64_t block, uint64_t end_block, SpaceReservation& space) {
  const Run run = FS_TRY(committed_run(block, end_block));
  if (run.kind != RunKind::hole) return run.end_block();
  Lba goal;
  {
    MutexLock lock(mutex_);
    goal = goal_;
  }
  const uint64_t wanted = std::min<uint64_t>(run.length_blocks, kMaxExtentBlocks);
  const BlockRange range = FS_TRY(store_.allocate(space, wanted, goal));
  if (const Status mapped = map_unwritten(block, range); !mapped.ok()) {
    store_.give_back(range);
    return mapped.error();
  }
  MutexLock lock(mutex_);
  goal_ = range.end();
  return block + range.length_blocks;
}

Status FileImpl::map_unwritten(uint64_t first_block, BlockRange range) {
  MutexLock attributes_lock(inode_.mutex);
  Transaction transaction;
  const ExtentMap::Replacement put =
      FS_TRY(extents_.put_unwritten(transaction, first_block, range));
  InodeAttributes attributes = inode_.attributes;
  attributes.block_count += static_cast<uint64_t>(put.block_delta);
  transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
  const MappingChange change(inode_);
  inode_.last_sequence = FS_TRY(store_.commit(transaction, false));
  inode_.attributes = attributes;
  inode_.item_dirty = false;
  return {};
}

}  // namespace stablefs
