// SPDX-License-Identifier: GPL-2.0-or-later
// Copying between files: whole blocks that lie alike in both are shared, other bytes go through
// memory.
//
// Sharing takes a truncate ticket in each file. Whoever holds one must not wait for what another's
// ticket may hold up, and he who waits for his second ticket does hold one: so everything is
// written back before, and under both tickets it is only looked whether that is still so.
#include <algorithm>

#include "data/file_impl.h"

namespace stablefs {
namespace {

// Through memory, of one call and of one piece of it.
constexpr uint64_t kThroughMemoryBytes = 16 << 20;
constexpr uint64_t kPieceBytes = 1 << 20;
// Transactions of one call; a caller who wants more calls again.
constexpr int kLinksMax = 256;
// Somebody may write to the source again and again while we want it to be still.
constexpr int kSettleTries = 4;
// What the extents, references and tuples of one link may add to the tree.
constexpr uint64_t kLinkGrowthBlocks = 96;

bool overlap(uint64_t a, uint64_t b, uint64_t length) {
  return a < b ? b - a < length : a - b < length;
}

}  // namespace

// Both inodes' mutexes, in the order of their numbers.
class FileImpl::PairLock {
 public:
  PairLock(InodeState& one, InodeState& other) FS_NO_THREAD_SAFETY_ANALYSIS
      : first_(one.ino < other.ino ? one : other),
        second_(one.ino < other.ino ? other : one) {
    first_.mutex.lock_same_rank();
    if (&first_ != &second_) second_.mutex.lock_same_rank();
  }
  ~PairLock() FS_NO_THREAD_SAFETY_ANALYSIS {
    if (&first_ != &second_) second_.mutex.unlock();
    first_.mutex.unlock();
  }
  PairLock(const PairLock&) = delete;
  PairLock& operator=(const PairLock&) = delete;

 private:
  InodeState& first_;
  InodeState& second_;
};

// Blocks of one file on their way into another. The last one may reach beyond the end of both.
struct FileImpl::Clone {
  FileImpl& target;
  uint64_t offset;
  uint64_t target_offset;
  uint64_t length;
  Timestamp now;
  OwnedBlocks target_owned{};

  uint64_t first() const { return offset / kBlockSize; }
  uint64_t end() const { return blocks_for_bytes(offset + length); }
  uint64_t target_first() const { return target_offset / kBlockSize; }
  uint64_t target_end() const { return blocks_for_bytes(target_offset + length); }
};

Result<uint64_t> FileImpl::copy_range(uint64_t offset, FileData& target, uint64_t target_offset,
                                      uint64_t length, Timestamp now) {
  auto& to = static_cast<FileImpl&>(target);
  if (target_offset > kMaxFileBytes || offset > kMaxFileBytes) return ErrorCode::file_too_large;
  if (length > kMaxFileBytes - target_offset) return ErrorCode::file_too_large;
  if (&to == this && length != 0 && overlap(offset, target_offset, length))
    return ErrorCode::invalid_argument;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  {
    // What the copying itself adds at the end is no part of it.
    MutexLock lock(mutex_);
    if (offset >= size_) return uint64_t{0};
    length = std::min(length, size_ - offset);
  }

  Budget budget{.bytes = kThroughMemoryBytes, .links = kLinksMax};
  uint64_t done = 0;
  while (done < length && budget.bytes > 0 && budget.links > 0) {
    const Clone clone{to, offset + done, target_offset + done, length - done, now};
    const Result<uint64_t> copied = copy_piece(clone, budget);
    if (!copied.ok() && done == 0) return copied.error();
    if (!copied.ok() || *copied == 0) break;
    done += *copied;
  }
  return done;
}

// 0: the source ends here.
Result<uint64_t> FileImpl::copy_piece(Clone clone, Budget& budget) {
  const uint64_t into_block = clone.offset % kBlockSize;
  const bool alike = into_block == clone.target_offset % kBlockSize;
  if (alike && into_block == 0 && budget.may_share) {
    if (const uint64_t shared = FS_TRY(share_settled(clone, budget))) return shared;
  }
  // Up to where sharing may begin, or go on.
  const uint64_t limit = alike && budget.may_share ? kBlockSize - into_block : kPieceBytes;
  clone.length = std::min({clone.length, limit, budget.bytes});
  return copy_through_memory(clone, budget);
}

Result<uint64_t> FileImpl::copy_through_memory(const Clone& clone, Budget& budget) {
  BufferSlice buffer(round_up(clone.length));
  const std::span<std::byte> bytes = buffer.writable().first(clone.length);
  const uint64_t got = FS_TRY(read(clone.offset, bytes, ReadCache::keep));
  if (got == 0) return uint64_t{0};
  budget.bytes -= got;
  context_.count().copied_bytes.fetch_add(got, std::memory_order_relaxed);
  return clone.target.write(clone.target_offset, buffer.slice(0, got), clone.now);
}

// 0: nothing can be shared, at least not now.
Result<uint64_t> FileImpl::share_settled(Clone clone, Budget& budget) {
  FileImpl& to = clone.target;
  for (int attempt = 0; attempt < kSettleTries; ++attempt) {
    {
      MutexLock lock(mutex_);
      if (clone.offset >= size_) return uint64_t{0};
      // No more than there is, so that nobody behind the end is waited for.
      clone.length = std::min(clone.length, round_up(size_) - clone.offset);
    }
    FS_TRY(write_back_range(clone.first(), clone.end()));
    FS_TRY(to.write_back_range(0, clone.target_end()));
    RangeTicket ticket(ranges_);
    RangeTicket target_ticket(to.ranges_);
    acquire_pair(clone, ticket, target_ticket);
    Clone wanted = clone;
    const Sharable verdict = judge_clone(wanted);
    auto shared = verdict == Sharable::yes ? share_blocks(wanted, budget) : Result<uint64_t>(0);
    to.release(target_ticket);
    if (ticket.held()) release(ticket);
    if (verdict == Sharable::never) break;
    const bool again = verdict == Sharable::yes && shared.ok() && *shared == 0;
    if (verdict != Sharable::later && !again) return shared;
  }
  budget.may_share = false;
  return uint64_t{0};
}

// In the order of the inodes' numbers. In one file a single ticket covers both ranges.
void FileImpl::acquire_pair(Clone& clone, RangeTicket& ticket, RangeTicket& target_ticket) {
  FileImpl& to = clone.target;
  const uint64_t end = clone.offset + clone.length;
  const uint64_t target_end = clone.target_offset + clone.length;
  if (&to == this) {
    clone.target_owned = acquire_range(target_ticket, RangeClass::truncate,
                                       std::min(clone.offset, clone.target_offset),
                                       std::max(end, target_end), /*may_extend=*/true);
    return;
  }
  const bool source_first = inode_.ino < to.inode_.ino;
  const auto acquire_source = [&] {
    ticket.acquire(RangeClass::truncate, round_down(clone.offset), round_up(end));
  };
  if (source_first) acquire_source();
  clone.target_owned = to.acquire_range(target_ticket, RangeClass::truncate, clone.target_offset,
                                        target_end, /*may_extend=*/true);
  if (!source_first) acquire_source();
}

// Under the tickets: what of it can be shared.
FileImpl::Sharable FileImpl::judge_clone(Clone& clone) {
  FileImpl& to = clone.target;
  {
    MutexLock lock(mutex_);
    if (clone.offset >= size_) return Sharable::not_here;
    clone.length = std::min(clone.length, size_ - clone.offset);
    if (uses_cache(clone.first(), clone.end())) return Sharable::later;
  }
  bool ends_source = false;
  {
    MutexLock lock(mutex_);
    ends_source = clone.offset + clone.length == size_;
  }
  {
    MutexLock lock(to.mutex_);
    // Behind the ends of both files it does not matter what the last block has.
    const bool whole_tail =
        ends_source && &to != this && clone.target_offset + clone.length >= to.size_;
    if (!whole_tail) clone.length = round_down(clone.length);
    if (clone.length == 0) return Sharable::not_here;
    // The block of the old end would be inside the file from now on, whatever it has behind it.
    const bool uneven_end =
        to.size_ % kBlockSize != 0 && to.size_ / kBlockSize < clone.target_first();
    if (uneven_end) return Sharable::not_here;
    if (to.is_under_way(clone.target_first(), clone.target_end())) return Sharable::later;
  }
  PairLock lock(inode_, to.inode_);
  return same_app_tag(to) ? Sharable::yes : Sharable::never;
}

// A tuple is of the block: files that share it have the same tag.
bool FileImpl::same_app_tag(const FileImpl& other) const FS_NO_THREAD_SAFETY_ANALYSIS {
  return inode_.attributes.app_tag == other.inode_.attributes.app_tag;
}

// What the device has is not, or may not be, the newest.
bool FileImpl::uses_cache(uint64_t first_block, uint64_t end_block) {
  const auto unsaved = pages_.next(first_block, kUnsavedStates);
  return (unsaved && *unsaved < end_block) || is_ordered(first_block, end_block);
}

bool FileImpl::is_ordered(uint64_t first_block, uint64_t end_block) {
  const auto behind = ordered_.lower_bound(end_block);
  return behind != ordered_.begin() && std::prev(behind)->second->extent.end_block() > first_block;
}

// Something must land before blocks may be mapped there: in the range, or below it, where it holds
// the size on disk back.
bool FileImpl::is_under_way(uint64_t first_block, uint64_t end_block) {
  const auto lowest = tail_.lowest_outside(first_block, end_block);
  return (lowest && *lowest < first_block) || is_ordered(first_block, end_block);
}

// In a chain of transactions without an intent: each is a piece of the copy.
Result<uint64_t> FileImpl::share_blocks(const Clone& clone, Budget& budget) {
  uint64_t done = 0;
  const uint64_t blocks = clone.end() - clone.first();
  while (done < blocks && budget.links > 0) {
    const Result<uint64_t> linked = share_link(clone, done);
    if (!linked.ok() && done == 0) return linked.error();
    if (!linked.ok() || *linked == 0) break;
    --budget.links;
    done += *linked;
  }
  const uint64_t bytes = std::min(clone.length, done * kBlockSize);
  context_.count().shared_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return bytes;
}

// From `skip` blocks on; returns how many. 0: something must land first.
Result<uint64_t> FileImpl::share_link(const Clone& clone, uint64_t skip) {
  FileImpl& to = clone.target;
  const uint64_t target_first = clone.target_first() + skip;
  const SpaceReservation growth = FS_TRY(store_.reserve_space(kLinkGrowthBlocks));
  context_.sharing().begin();
  JournalReservation journal = FS_TRY(reserve_link());
  uint64_t done = 0;
  {
    PairLock attributes_lock(inode_, to.inode_);
    Transaction transaction;
    const ExtentMap::Shared shared = FS_TRY(extents_.share(
        transaction, clone.first() + skip, clone.end(), to.extents_, target_first, kLinkBytes));
    done = shared.blocks_done;
    const uint64_t target_end = target_first + done;
    const uint64_t end_bytes =
        std::min(target_end * kBlockSize, clone.target_offset + clone.length);
    const SharedRange range{target_first, target_end, end_bytes};
    if (!FS_TRY(to.commit_shared(transaction, journal, shared, range, clone.now)))
      return uint64_t{0};
  }
  to.finish_held();
  context_.made_progress(to.schedule);
  return done;
}

// The target's part, by the holder of both mutexes. What is written below the range since it was
// judged holds the size on disk back, and nothing may be mapped behind that.
Result<bool> FileImpl::commit_shared(Transaction& transaction, JournalReservation& journal,
                                     const ExtentMap::Shared& shared, const SharedRange& range,
                                     Timestamp now) FS_NO_THREAD_SAFETY_ANALYSIS {
  InodeAttributes attributes = inode_.attributes;
  attributes.block_count += static_cast<uint64_t>(shared.block_delta);
  attributes.size_bytes = std::max(attributes.size_bytes, range.end_bytes);
  attributes.modify_time = attributes.change_time = now;
  {
    MutexLock lock(mutex_);
    uint64_t disk_size = std::max(size_, range.end_bytes);
    if (const auto lowest = tail_.lowest_outside(range.first_block, range.end_block)) {
      if (*lowest < range.first_block) return false;
      disk_size = std::min(disk_size, *lowest * kBlockSize);
    }
    attributes.disk_size_bytes = std::max(disk_size, disk_size_);
  }
  transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
  {
    const MappingChange change(inode_);
    inode_.last_sequence = FS_TRY(commit_link(transaction, journal, shared.lock));
  }
  inode_.attributes = attributes;
  inode_.item_dirty = false;
  context_.damage().forget(shared.healed);
  MutexLock lock(mutex_);
  remove_pages(range.first_block, range.end_block);
  tail_.erase(range.first_block, range.end_block);
  size_ = std::max(size_, range.end_bytes);
  disk_size_moved(attributes.disk_size_bytes);
  return true;
}

}  // namespace stablefs
