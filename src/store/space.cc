// SPDX-License-Identifier: GPL-2.0-or-later
// Promises of space, allocation, and when freed blocks may be used again.
//
// Free blocks are kept back for tree nodes (node_reserve_blocks): two generations of dirty nodes
// can always be written, so deleting and checkpointing never fail for space. Data and new names
// are refused before that reserve is touched. A second, the transit reserve, lets a full filesystem
// overwrite what it has: the new version needs its blocks before those of the old one are free.
#include "store/store_impl.h"

namespace stablefs {
namespace {

// Data blocks are charged a sixteenth more: extents and tuples they will need in the tree.
// Unwritten ones, too, as long as they are: writing into them must never fail for space.
constexpr uint64_t kMetadataShare = 16;
constexpr uint64_t kGrowthBlocks = 8;  // a transaction that grows may split this many nodes
constexpr int kReclaimTries = 3;

// A 128th of the device, within these bounds, but never more than a 64th of a tiny one.
constexpr uint64_t kTransitShare = 128;
constexpr uint64_t kTransitMax = 4096;
constexpr uint64_t kTransitMin = 512;
constexpr uint64_t kTransitLargestShare = 64;

uint64_t charge(uint64_t data_blocks) {
  return data_blocks + data_blocks / kMetadataShare;
}

}  // namespace

uint64_t StoreImpl::node_reserve_blocks() const {
  return 2 * dirty_node_limit_ * copies_;
}

uint64_t StoreImpl::transit_reserve_blocks() const {
  const uint64_t blocks = superblock_.block_count;
  return std::min(std::clamp(blocks / kTransitShare, kTransitMin, kTransitMax),
                  blocks / kTransitLargestShare);
}

uint64_t StoreImpl::available_locked(SpaceUse use) const {
  uint64_t promised = charge(reserved_blocks_) + dirty_nodes() * copies_ + node_reserve_blocks();
  // What is replaced comes back: it may borrow from these.
  if (use == SpaceUse::growth) {
    promised += transit_reserve_blocks() + unwritten_blocks_ / kMetadataShare;
  }
  const uint64_t available = space_.available() + discarding_blocks_;
  return available > promised ? available - promised : 0;
}

Status StoreImpl::reclaim() {
  FS_TRY(sync(last_sequence()));
  return run_checkpoint(false);
}

bool StoreImpl::reclaim_would_help() {
  MutexLock lock(space_mutex_);
  return space_.pending_free() != 0 || dirty_nodes() != 0;
}

Status StoreImpl::check_growth() {
  for (int attempt = 0;; ++attempt) {
    {
      MutexLock lock(space_mutex_);
      if (available_locked(SpaceUse::growth) >= kGrowthBlocks) return {};
    }
    if (attempt == kReclaimTries || !reclaim_would_help()) return ErrorCode::no_space;
    counters_.space_waits.fetch_add(1, std::memory_order_relaxed);
    FS_TRY(reclaim());
  }
}

Result<SpaceReservation> StoreImpl::reserve_space(uint64_t blocks, SpaceUse use) {
  FS_TRY(check_writable());
  for (int attempt = 0;; ++attempt) {
    {
      MutexLock lock(space_mutex_);
      if (available_locked(use) >= charge(blocks) + 1) {
        reserved_blocks_ += blocks;
        return SpaceReservation(this, blocks);
      }
    }
    if (attempt == kReclaimTries || !reclaim_would_help()) return ErrorCode::no_space;
    counters_.space_waits.fetch_add(1, std::memory_order_relaxed);
    FS_TRY(reclaim());
  }
}

void StoreImpl::release_space(uint64_t blocks) {
  MutexLock lock(space_mutex_);
  FS_ASSERT(reserved_blocks_ >= blocks);
  reserved_blocks_ -= blocks;
}

Result<BlockRange> StoreImpl::allocate(SpaceReservation& reservation, uint64_t want, Lba goal) {
  FS_ASSERT(reservation.blocks() != 0);
  FS_ASSERT(want != 0);
  want = std::min(want, reservation.blocks());
  for (int attempt = 0;;) {
    std::optional<uint32_t> load;
    {
      MutexLock lock(space_mutex_);
      wait_for_discards(want);
      if (space_.loaded_available() < 2 * want) load = space_.group_worth_loading(goal);
      if (!load) {
        if (auto range = space_.allocate(want, goal)) {
          reservation.blocks_ -= range->length_blocks;
          reserved_blocks_ -= range->length_blocks;
          in_flight_blocks_ += range->length_blocks;
          return *range;
        }
      }
    }
    if (load) {
      FS_TRY(load_group(*load));
    } else {
      // The promise holds, but the blocks behind it were freed and are not reusable yet.
      if (++attempt > kReclaimTries) return ErrorCode::no_space;
      FS_TRY(reclaim());
    }
  }
}

void StoreImpl::give_back(BlockRange range) {
  MutexLock lock(space_mutex_);
  space_.give_back(range);
  in_flight_blocks_ -= range.length_blocks;
}

SpaceUsage StoreImpl::space_usage() {
  const uint64_t nodes = dirty_nodes() * copies_;
  MutexLock lock(space_mutex_);
  SpaceUsage usage{};
  usage.total_blocks = superblock_.block_count;
  usage.overhead_blocks = fixed_regions(superblock_)[0].length_blocks +
                          fixed_regions(superblock_)[1].length_blocks + node_reserve_blocks() +
                          transit_reserve_blocks();
  const uint64_t held = in_flight_blocks_ + node_reserve_blocks() + transit_reserve_blocks();
  usage.free_blocks = space_.uncommitted() > held ? space_.uncommitted() - held : 0;
  const uint64_t promised = charge(reserved_blocks_) + unwritten_blocks_ / kMetadataShare + nodes;
  usage.unwritten_blocks = unwritten_blocks_;
  usage.available_blocks = usage.free_blocks > promised ? usage.free_blocks - promised : 0;
  return usage;
}

// --- reuse: after the freeing is durable and every reader that may have looked before is gone

ReadPin StoreImpl::pin() {
  MutexLock lock(space_mutex_);
  ++pins_[pin_epoch_];
  return ReadPin(this, pin_epoch_);
}

void StoreImpl::release_pin(uint64_t epoch) {
  MutexLock lock(space_mutex_);
  auto it = pins_.find(epoch);
  FS_ASSERT(it != pins_.end());
  if (--it->second == 0) {
    pins_.erase(it);
    release_unpinned();
  }
}

void StoreImpl::note_batch_durable(Sequence sequence) {
  MutexLock lock(space_mutex_);
  bool any = false;
  while (!pending_frees_.empty() && pending_frees_.front().sequence <= sequence) {
    unpinned_wait_.emplace_back(pin_epoch_, pending_frees_.front().range);
    pending_frees_.pop_front();
    any = true;
  }
  if (any) {
    ++pin_epoch_;
    release_unpinned();
  }
}

void StoreImpl::note_nodes_replaced(const std::vector<Lba>& nodes) {
  MutexLock lock(space_mutex_);
  for (Lba lba : nodes) unpinned_wait_.emplace_back(pin_epoch_, BlockRange{lba, 1});
  if (!nodes.empty()) ++pin_epoch_;
  release_unpinned();
}

void StoreImpl::release_unpinned() {
  const uint64_t oldest = pins_.empty() ? pin_epoch_ : pins_.begin()->first;
  while (!unpinned_wait_.empty() && unpinned_wait_.front().first < oldest) {
    space_.release_freed(unpinned_wait_.front().second);
    note_free(unpinned_wait_.front().second);
    unpinned_wait_.pop_front();
  }
}

}  // namespace stablefs
