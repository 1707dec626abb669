// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/extent_map.h"

#include <fmt/format.h>

#include <algorithm>

#include "format/items.h"
#include "stablefs/format.h"

namespace stablefs {
namespace {

constexpr size_t kScanItems = 64;
constexpr size_t kEraseBytes = 18;  // opcode and key
constexpr size_t kDamagePutBytes = kEraseBytes + 2 + sizeof(DiskDamage);
constexpr size_t kRangeBytes = 13;  // opcode, address, length
constexpr size_t kInodeItemBytes = 20 + sizeof(DiskInode);
// Below the limit by what neighbours that merge or split in the meantime may add.
constexpr size_t kReplaceLimitBytes = kMaxTransactionBytes - 16 * 1024;
constexpr size_t kSlackBytes = 4 * 1024;
// An extent may have more tuples items than one transaction can delete, ...
constexpr uint64_t kRemoveStepBlocks = 8192;
// ... entries of the damage list as well, ...
constexpr uint64_t kDamagedStepBlocks = 1024;
// ... or many small pieces that are shared with different files, ...
constexpr uint64_t kSharedStepBlocks = 512;
constexpr uint64_t kSharedStepItems = 64;
// ... or put.
constexpr uint64_t kTagStepBlocks = 512;

}  // namespace

Result<std::vector<Extent>> ExtentMap::overlapping(uint64_t first, uint64_t end,
                                                   size_t limit) const {
  FS_ASSERT(first < end);
  std::vector<Extent> extents;
  const auto below = FS_TRY(store_.floor(extent_key(ino_, first), extent_key(ino_, 0)));
  if (below) {
    Extent extent = FS_TRY(parse_extent(*below, interval_));
    if (extent.end_block() > first) extents.push_back(std::move(extent));
  }
  uint64_t at = extents.empty() ? first : extents.back().end_block();
  while (at < end && extents.size() < limit) {
    const auto items = FS_TRY(store_.scan(extent_key(ino_, at), extent_key(ino_, end - 1),
                                          std::min(kScanItems, limit - extents.size())));
    if (items.empty()) break;
    for (const Item& item : items) {
      Extent extent = FS_TRY(parse_extent(item, interval_));
      if (extent.first_block < at) {
        return Error(ErrorCode::extent_invalid,
                     fmt::format("inode {}: extents overlap at block {}", ino_.value, at));
      }
      at = extent.end_block();
      extents.push_back(std::move(extent));
    }
  }
  return extents;
}

Result<Run> ExtentMap::run_of(const Extent& extent, uint64_t first, uint64_t end) const {
  Extent part = extent.part(first, end, interval_);
  Run run;
  run.kind = part.unwritten ? RunKind::unwritten : RunKind::written;
  run.first_block = part.first_block;
  run.length_blocks = part.length_blocks;
  run.lba = part.lba;
  if (part.keyed()) {
    run.tuples = FS_TRY(read_tuples(store_, part.range()));
  } else {
    run.tuples = std::move(part.tuples);
  }
  return run;
}

Result<std::vector<Run>> ExtentMap::lookup(uint64_t first, uint64_t end) const {
  std::vector<Run> runs;
  uint64_t at = first;
  const auto add_hole = [&](uint64_t to) {
    if (at < to) runs.push_back(Run{RunKind::hole, at, to - at, Lba(), {}});
  };
  for (const Extent& extent : FS_TRY(overlapping(first, end, SIZE_MAX))) {
    add_hole(extent.first_block);
    runs.push_back(FS_TRY(run_of(extent, first, end)));
    at = runs.back().end_block();
  }
  add_hole(end);
  return runs;
}

Result<Run> ExtentMap::run_at(uint64_t block) const {
  const auto extents = FS_TRY(overlapping(block, kEndOfFileBlocks, 1));
  Run run;
  run.first_block = block;
  if (extents.empty()) {
    run.length_blocks = kEndOfFileBlocks - block;
  } else if (extents.front().first_block > block) {
    run.length_blocks = extents.front().first_block - block;
  } else {
    const Extent& extent = extents.front();
    run.kind = extent.unwritten ? RunKind::unwritten : RunKind::written;
    run.lba = extent.lba + (block - extent.first_block);
    run.length_blocks = extent.end_block() - block;
  }
  return run;
}

Result<ExtentMap::Cost> ExtentMap::replacement_cost(uint64_t first, uint64_t length_blocks) const {
  const auto fixed_bytes = [&](uint64_t blocks) {
    const uint32_t inline_tuples = kMaxInlineTupleBlocks * tuples_per_block(interval_);
    return kInodeItemBytes + 3 * extent_operation_bytes(inline_tuples) + 2 * kRangeBytes +
           put_tuples_bytes(blocks, interval_) + blocks * sizeof(uint32_t) + kSlackBytes;
  };
  Cost cost{length_blocks, fixed_bytes(length_blocks)};
  FS_ASSERT(cost.bytes < kReplaceLimitBytes);
  for (const Extent& extent : FS_TRY(overlapping(first, first + length_blocks, SIZE_MAX))) {
    Extent part = extent.part(first, first + length_blocks, interval_);
    if (part.unwritten && part.first_block == first) {
      return Cost{part.length_blocks, fixed_bytes(part.length_blocks), part.range()};
    }
    if (part.unwritten) {
      cost.length_blocks = part.first_block - first;
      return cost;
    }
    const bool is_shared = FS_TRY(reference_items(part)) != 0;
    // Others who give up their share may cut it into single blocks until then.
    if (is_shared && part.length_blocks > kSharedStepBlocks) {
      part = part.part(part.first_block, part.first_block + kSharedStepBlocks, interval_);
    }
    const uint64_t items = is_shared ? part.length_blocks : 0;
    const size_t bytes = kEraseBytes + kRangeBytes + freeing_bytes(part, items);
    if (cost.bytes + bytes > kReplaceLimitBytes && part.first_block > first) {
      cost.length_blocks = part.first_block - first;
      return cost;
    }
    cost.bytes += bytes;
    if (part.end_block() < std::min(extent.end_block(), first + length_blocks)) {
      cost.length_blocks = part.end_block() - first;
      return cost;
    }
  }
  return cost;
}

Result<uint64_t> ExtentMap::count_freed(const Run& run) const {
  if (!may_share()) return run.length_blocks;
  return count_unshared(store_, {run.lba, run.length_blocks});
}

Result<uint64_t> ExtentMap::reference_items(const Extent& extent) const {
  if (!may_share() || extent.unwritten) return uint64_t{0};
  return count_reference_items(store_, extent.range(), kSharedStepItems);
}

// Entries of the damage list may be of a block's former owner: two files must not erase one.
Result<bool> ExtentMap::needs_sharing_lock(const Extent& gone) const {
  if (!may_share() || gone.unwritten) return false;
  if (damage_ != nullptr && damage_->count(gone.range()) != 0) return true;
  return any_shared(store_, gone.range());
}

Status ExtentMap::free_blocks(Freeing& freeing, const Extent& gone) const {
  if (freeing.keep_blocks) return {};
  if (!freeing.lock.held()) {
    if (!FS_TRY(needs_sharing_lock(gone))) return free_owned(freeing, gone);
    freeing.lock.take(*sharing_);
  }
  return gone.unwritten ? free_owned(freeing, gone) : release_shared(freeing, gone);
}

Status ExtentMap::free_owned(Freeing& freeing, const Extent& gone) const {
  freeing.transaction.free(gone.range());
  if (gone.keyed()) FS_TRY(freeing.tuples.erase(gone.range()));
  if (damage_ != nullptr) damage_->erase(freeing.transaction, gone.range(), freeing.healed);
  return {};
}

Status ExtentMap::release_shared(Freeing& freeing, const Extent& gone) const {
  for (const auto& piece : FS_TRY(freeing.references.release(gone.range()))) {
    const uint64_t first = gone.first_block + (piece.range.start - gone.lba);
    const Extent part = gone.part(first, first + piece.range.length_blocks, interval_);
    if (piece.count == 0) {
      FS_TRY(free_owned(freeing, part));
      continue;
    }
    if (damage_ != nullptr) damage_->pass_on(freeing.transaction, part.range(), ino_);
    // It is somebody's own from now on, and so are its tuples.
    if (piece.count == 1 && gone.keyed()) FS_TRY(freeing.tuples.split_around(part.range()));
  }
  return {};
}

size_t ExtentMap::freeing_bytes(const Extent& gone, uint64_t items) const {
  size_t bytes = damage_ == nullptr ? 0 : damage_->count(gone.range()) * kDamagePutBytes;
  if (gone.keyed()) bytes += erase_tuples_bytes(gone.length_blocks);
  return bytes + sharing_bytes(gone, items);
}

size_t ExtentMap::sharing_bytes(const Extent& extent, uint64_t items) const {
  if (items == 0) return 0;
  const size_t bytes = ReferenceEditor::edit_bytes(items);
  if (!extent.keyed()) return bytes;
  return bytes + TupleEditor::split_bytes(items, extent.length_blocks, interval_);
}

Status ExtentMap::cut(Freeing& freeing, const Extent& old, uint64_t first, uint64_t end,
                      uint64_t replaced_key) const {
  Transaction& transaction = freeing.transaction;
  if (old.first_block < first) {
    put_extent(transaction, ino_, old.part(0, first, interval_));
  } else if (old.first_block != replaced_key) {
    transaction.erase(extent_key(ino_, old.first_block));
  }
  if (old.end_block() > end)
    put_extent(transaction, ino_, old.part(end, old.end_block(), interval_));
  return free_blocks(freeing, old.part(first, end, interval_));
}

Status ExtentMap::merge_with_previous(Extent& fresh) const {
  if (fresh.first_block == 0) return {};
  const auto item =
      FS_TRY(store_.floor(extent_key(ino_, fresh.first_block - 1), extent_key(ino_, 0)));
  if (!item) return {};
  Extent previous = FS_TRY(parse_extent(*item, interval_));
  if (!previous.mergeable(fresh)) return {};
  previous.length_blocks += fresh.length_blocks;
  previous.tuples.insert(previous.tuples.end(), fresh.tuples.begin(), fresh.tuples.end());
  fresh = std::move(previous);
  return {};
}

Result<ExtentMap::Replacement> ExtentMap::put_over(Transaction& transaction, Extent& fresh,
                                                   bool in_place) const {
  const uint64_t first = fresh.first_block, end = fresh.end_block();
  const BlockRange range = fresh.range();
  const std::vector<Extent> old = FS_TRY(overlapping(first, end, SIZE_MAX));
  const bool starts_inside = !old.empty() && old.front().first_block < first;
  if (!starts_inside) FS_TRY(merge_with_previous(fresh));

  Freeing freeing(transaction, store_);
  freeing.keep_blocks = in_place;
  auto delta = static_cast<int64_t>(range.length_blocks);
  for (const Extent& extent : old) {
    const Extent part = extent.part(first, end, interval_);
    const bool same_blocks = part.unwritten && part.lba == range.start + (part.first_block - first);
    if (in_place && !same_blocks) {
      return Error(ErrorCode::extent_invalid,
                   fmt::format("inode {}: block {} is not unwritten", ino_.value, first));
    }
    FS_TRY(cut(freeing, extent, first, end, fresh.first_block));
    delta -= part.length_blocks;
  }
  if (in_place && delta != 0) {
    return Error(ErrorCode::extent_invalid,
                 fmt::format("inode {}: block {} is not mapped", ino_.value, first));
  }
  freeing.emit();
  if (!in_place) transaction.allocate(range);
  put_extent(transaction, ino_, fresh);
  return Replacement{delta, std::move(freeing.healed), std::move(freeing.lock)};
}

Result<ExtentMap::Replacement> ExtentMap::replace(Transaction& transaction,
                                                  const Mapping& mapping) const {
  FS_ASSERT(mapping.tuples.size() == mapping.range.length_blocks * tuples_per_block(interval_));
  Extent fresh;
  fresh.first_block = mapping.first_block;
  fresh.lba = mapping.range.start;
  fresh.length_blocks = static_cast<uint32_t>(mapping.range.length_blocks);
  fresh.inline_tuples = mapping.range.length_blocks <= kMaxInlineTupleBlocks;
  if (fresh.inline_tuples) fresh.tuples.assign(mapping.tuples.begin(), mapping.tuples.end());
  const bool keyed = !fresh.inline_tuples;
  Replacement replacement = FS_TRY(put_over(transaction, fresh, mapping.in_place));
  if (keyed) put_tuples(transaction, mapping.range, mapping.tuples, interval_);
  transaction.data_checksums(mapping.range, mapping.checksums);
  return replacement;
}

Result<ExtentMap::Replacement> ExtentMap::put_unwritten(Transaction& transaction,
                                                        uint64_t first_block,
                                                        BlockRange range) const {
  FS_ASSERT(range.length_blocks <= kMaxExtentBlocks);
  Extent fresh;
  fresh.first_block = first_block;
  fresh.lba = range.start;
  fresh.length_blocks = static_cast<uint32_t>(range.length_blocks);
  fresh.unwritten = true;
  return put_over(transaction, fresh, /*in_place=*/false);
}

Result<ExtentMap::Removal> ExtentMap::remove(Transaction& transaction, uint64_t first, uint64_t end,
                                             size_t limit_bytes) const {
  Removal removal;
  Freeing freeing(transaction, store_);
  const auto stop_at = [&](uint64_t next_block) {
    freeing.emit();
    removal.healed = std::move(freeing.healed);
    removal.lock = std::move(freeing.lock);
    removal.next_block = next_block;
    return std::move(removal);
  };
  const bool damaged = damage_ != nullptr && !damage_->empty();
  const uint64_t step = damaged ? kDamagedStepBlocks : kRemoveStepBlocks;
  size_t tuple_bytes = 0;
  uint64_t at = first;
  while (at < end) {
    // One batch is bounded, so that the tree is never asked for millions of items at once.
    const auto extents = FS_TRY(overlapping(at, end, kScanItems));
    if (extents.empty()) break;
    for (const Extent& extent : extents) {
      const uint64_t from = std::max(extent.first_block, at);
      const uint64_t whole = extent.unwritten && !damaged ? kMaxExtentBlocks : step;
      uint64_t to = std::min({extent.end_block(), end, from + whole});
      uint64_t items = FS_TRY(reference_items(extent.part(from, to, interval_)));
      if (items != 0 && !freeing.lock.held()) {
        // So that they stay as many.
        freeing.lock.take(*sharing_);
        items = FS_TRY(reference_items(extent.part(from, to, interval_)));
      }
      if (items >= kSharedStepItems) {
        to = std::min(to, from + kSharedStepBlocks);
        items = to - from;
      }
      const size_t bytes = freeing_bytes(extent.part(from, to, interval_), items);
      const size_t edges =
          2 * extent_operation_bytes(kMaxInlineTupleBlocks * tuples_per_block(interval_));
      if (removal.blocks_freed > 0 &&
          transaction.size_bytes() + tuple_bytes + bytes + edges > limit_bytes) {
        return stop_at(from);
      }
      tuple_bytes += bytes;
      FS_TRY(cut(freeing, extent, from, to, kEndOfFileBlocks));
      removal.blocks_freed += to - from;
      at = to;
      if (to < extent.end_block() && to < end) {  // the rest of this extent is the next step's
        return stop_at(to);
      }
    }
  }
  return stop_at(kEndOfFileBlocks);
}

Result<uint64_t> ExtentMap::set_app_tag(Transaction& transaction, uint64_t first, uint16_t app_tag,
                                        size_t limit_bytes) const {
  const uint32_t per_block = tuples_per_block(interval_);
  TupleEditor tuples(store_);
  size_t tuple_bytes = 0;
  uint64_t at = first;
  while (true) {
    auto extents = FS_TRY(overlapping(at, kEndOfFileBlocks, kScanItems));
    if (extents.empty()) break;
    for (Extent& extent : extents) {
      if (extent.unwritten) {
        at = extent.end_block();
        continue;
      }
      const uint64_t from = std::max(extent.first_block, at);
      const uint64_t to = std::min(extent.end_block(), from + kTagStepBlocks);
      const size_t bytes = extent.keyed()
                               ? TupleEditor::edit_bytes(to - from, interval_)
                               : extent_operation_bytes(kMaxInlineTupleBlocks * per_block);
      if (at != first && transaction.size_bytes() + tuple_bytes + bytes > limit_bytes) {
        tuples.emit(transaction);
        return from;
      }
      at = to;
      if (extent.keyed()) {
        tuple_bytes += bytes;
        FS_TRY(tuples.set_app_tag(extent.part(from, to, interval_).range(), app_tag));
      } else {
        for (Tuple& tuple : extent.tuples) tuple.app_tag = app_tag;
        put_extent(transaction, ino_, extent);
      }
      if (to < extent.end_block()) break;  // the rest is the next step's
    }
  }
  tuples.emit(transaction);
  return kEndOfFileBlocks;
}

namespace {

template <class Look>
auto look_beside_changes(InodeState& inode, Look look) {
  const uint64_t before = inode.mapping_changes.load();
  if (before % 2 == 0) {
    auto found = look();
    if (inode.mapping_changes.load() == before) return found;
  }
  MutexLock lock(inode.mutex);
  return look();
}

}  // namespace

Result<std::vector<Run>> lookup_beside_changes(const ExtentMap& extents, InodeState& inode,
                                               uint64_t first, uint64_t end) {
  return look_beside_changes(inode, [&] { return extents.lookup(first, end); });
}

Result<ExtentMap::Cost> cost_beside_changes(const ExtentMap& extents, InodeState& inode,
                                            uint64_t first, uint64_t length_blocks) {
  return look_beside_changes(inode, [&] { return extents.replacement_cost(first, length_blocks); });
}

}  // namespace stablefs
