// SPDX-License-Identifier: GPL-2.0-or-later
// Telling the device which blocks are free. Only those that could be allocated at that moment:
// their freeing is durable and nobody reads them any more. They are busy until the device is done,
// so nobody writes there meanwhile; they count as available, and who needs them waits. Free blocks
// for tree nodes are never all taken away by this: a checkpoint does not wait.
//
// With the option `discard`, a thread does it some time after the blocks came free, as far as they
// still are: what is soon used again costs nothing, and neighbours go in one request. What it does
// not get to (a crash, too much at once) is left for discard_free over all of the device.
#include <algorithm>

#include "store/store_impl.h"

namespace stablefs {
namespace {

constexpr size_t kRangesMax = 65536;  // remembered; more are forgotten
constexpr uint64_t kLeastBlocks = 8;  // shorter runs are not worth a request each
constexpr uint64_t kRequestBlocks = 16384;

void coalesce(std::vector<BlockRange>& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const BlockRange& a, const BlockRange& b) { return a.start < b.start; });
  size_t kept = 0;
  for (const BlockRange& range : ranges) {
    if (kept > 0 && range.start <= ranges[kept - 1].end()) {
      BlockRange& last = ranges[kept - 1];
      const Lba end = std::max(last.end(), range.end());
      last.length_blocks = end.value - last.start.value;
    } else {
      ranges[kept++] = range;
    }
  }
  ranges.resize(kept);
}

}  // namespace

void StoreImpl::note_free(BlockRange range) {
  if (!discards() || stop_discards_) return;
  if (!freed_.empty() && freed_.back().end() == range.start) {
    freed_.back().length_blocks += range.length_blocks;
  } else if (freed_.size() < kRangesMax) {
    freed_.push_back(range);
  } else {
    return;
  }
  if (freed_blocks_ == 0) {
    freed_since_ns_ = options_.clock->monotonic_ns();
    discard_work_.notify_one();
  }
  freed_blocks_ += range.length_blocks;
}

void StoreImpl::discard_thread() {
  MutexLock lock(space_mutex_);
  while (!stop_discards_) {
    if (freed_blocks_ == 0) {
      discard_work_.wait(space_mutex_);
    } else if (options_.clock->monotonic_ns() < freed_since_ns_ + options_.discard_delay_ns) {
      discard_work_.wait_until(space_mutex_, *options_.clock,
                               freed_since_ns_ + options_.discard_delay_ns);
    } else {
      lock.unlock();
      discard_freed();
      lock.lock();
    }
  }
}

void StoreImpl::discard_freed() {
  std::vector<BlockRange> ranges;
  {
    MutexLock lock(space_mutex_);
    ranges.swap(freed_);
    freed_blocks_ = 0;
  }
  coalesce(ranges);
  for (const BlockRange& range : ranges) {
    if (!discard_free(range, kLeastBlocks).ok()) return;
  }
}

Result<uint64_t> StoreImpl::discard_free(BlockRange range, uint64_t least_blocks) {
  FS_TRY(check_writable());
  if (!device_.supports_discard()) return ErrorCode::not_supported;
  uint64_t done_blocks = 0;
  Lba at = range.start;
  const Lba end = std::min(range.end(), Lba(superblock_.block_count));
  while (at < end) {
    FS_TRY(load_group(SpaceMap::group_of(at)));
    const Lba group_end((uint64_t{SpaceMap::group_of(at)} + 1) * kGroupBlocks);
    const Lba limit = std::min({end, group_end, at + kRequestBlocks});
    BlockRange part{at, limit.value - at.value};
    const auto held = hold_free(part, std::max<uint64_t>(least_blocks, 1));
    at = held ? held->end() : part.end();
    if (!held) continue;
    FS_TRY(check_writable());
    if (discard_held(*held).ok()) done_blocks += held->length_blocks;
  }
  return done_blocks;
}

// The first run in `range`, which is made shorter when so much cannot be spared.
std::optional<BlockRange> StoreImpl::hold_free(BlockRange& range, uint64_t least_blocks) {
  MutexLock lock(space_mutex_);
  while (waiting_for_discards_ != 0) discard_done_.wait(space_mutex_);
  if (stop_discards_) return std::nullopt;
  const uint64_t kept = node_reserve_blocks();
  const uint64_t spare = space_.available() > kept ? (space_.available() - kept) / 2 : 0;
  if (spare < least_blocks) return std::nullopt;
  range.length_blocks = std::min(range.length_blocks, spare);
  const auto held = space_.take_free(range, least_blocks);
  if (held) discarding_blocks_ += held->length_blocks;
  return held;
}

// A failure is no harm: the device just does not know.
Status StoreImpl::discard_held(BlockRange range) {
  const Status status = device_.discard(range);
  counters_.discard_requests.fetch_add(1, std::memory_order_relaxed);
  if (status.ok()) {
    counters_.discarded_blocks.fetch_add(range.length_blocks, std::memory_order_relaxed);
  } else {
    counters_.discard_errors.fetch_add(1, std::memory_order_relaxed);
  }
  MutexLock lock(space_mutex_);
  space_.give_back(range);
  discarding_blocks_ -= range.length_blocks;
  discard_done_.notify_all();
  return status;
}

// What was promised may be what is being discarded. Tree nodes, which cannot wait, keep their
// share.
void StoreImpl::wait_for_discards(uint64_t want) {
  const auto short_of_blocks = [this, want]() FS_REQUIRES(space_mutex_) {
    return discarding_blocks_ != 0 && space_.available() < want + node_reserve_blocks();
  };
  if (!short_of_blocks()) return;
  ++waiting_for_discards_;
  while (short_of_blocks()) discard_done_.wait(space_mutex_);
  --waiting_for_discards_;
  discard_done_.notify_all();
}

void StoreImpl::stop_discards() {
  MutexLock lock(space_mutex_);
  stop_discards_ = true;
  discard_work_.notify_all();
  discard_done_.notify_all();
}

}  // namespace stablefs
