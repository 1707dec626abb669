// SPDX-License-Identifier: GPL-2.0-or-later
// Mapping blocks of one file into another. One transaction adds an owner to each block, gives up
// what the target had there, and puts the target's extents.
#include <algorithm>

#include "data/extent_map.h"

namespace stablefs {
namespace {

constexpr size_t kScanItems = 64;
constexpr size_t kOldExtentBytes = 18 + 13;  // its key erased, its blocks freed
constexpr uint64_t kFreeStepBlocks = 8192;
// Where blocks are shared in smaller pieces than that, so many are taken at once.
constexpr uint64_t kPiecesMax = 64;
constexpr uint64_t kPiecesStepBlocks = 512;

}  // namespace

// How many blocks from `first` on fit into `limit_bytes`.
template <class PartBytes>
Result<uint64_t> ExtentMap::fitting(uint64_t first, uint64_t end, size_t limit_bytes,
                                    PartBytes part_bytes) const {
  size_t bytes = 0;
  const auto extents = FS_TRY(overlapping(first, end, kScanItems));
  for (const Extent& extent : extents) {
    Extent part = extent.part(first, end, interval_);
    const uint64_t whole_end = part.end_block();
    uint64_t items = FS_TRY(reference_items(part));
    const uint64_t step = items < kPiecesMax ? kFreeStepBlocks : kPiecesStepBlocks;
    if (part.length_blocks > step) {
      part = part.part(part.first_block, part.first_block + step, interval_);
    }
    if (items >= kPiecesMax) items = part.length_blocks;
    const size_t more = part_bytes(part, items);
    if (bytes != 0 && bytes + more > limit_bytes) return part.first_block - first;
    bytes += more;
    if (part.end_block() < whole_end) return part.end_block() - first;
  }
  if (extents.size() < kScanItems) return end - first;
  return std::min(end, extents.back().end_block()) - first;
}

Result<uint64_t> ExtentMap::shareable(uint64_t first, uint64_t end, size_t limit_bytes) const {
  const uint32_t inline_tuples = kMaxInlineTupleBlocks * tuples_per_block(interval_);
  return fitting(first, end, limit_bytes, [&](const Extent& part, uint64_t items) {
    return extent_operation_bytes(inline_tuples) + sharing_bytes(part, items + 1);
  });
}

Result<uint64_t> ExtentMap::removable(uint64_t first, uint64_t end, size_t limit_bytes) const {
  return fitting(first, end, limit_bytes, [&](const Extent& part, uint64_t items) {
    return kOldExtentBytes + freeing_bytes(part, items);
  });
}

Status ExtentMap::add_owner(Freeing& freeing, const Extent& extent) const {
  for (const auto& piece : FS_TRY(freeing.references.share(extent.range()))) {
    // It was this file's own until now, and so were its tuples.
    if (piece.count == 2 && extent.keyed()) FS_TRY(freeing.tuples.split_around(piece.range));
  }
  return {};
}

Result<ExtentMap::Shared> ExtentMap::share(Transaction& transaction, uint64_t first, uint64_t end,
                                           const ExtentMap& target, uint64_t target_first,
                                           size_t limit_bytes) const {
  FS_ASSERT(sharing_ != nullptr);
  Freeing freeing(transaction, store_);
  sharing_->begin();
  freeing.lock.take(*sharing_);
  Shared shared;
  shared.blocks_done = FS_TRY(shareable(first, end, limit_bytes / 2));
  shared.blocks_done =
      FS_TRY(target.removable(target_first, target_first + shared.blocks_done, limit_bytes / 2));
  end = first + shared.blocks_done;
  const uint64_t target_end = target_first + shared.blocks_done;

  // Before anything is given up: what both have already never comes to be without an owner.
  std::vector<Extent> sources = FS_TRY(overlapping(first, end, SIZE_MAX));
  std::erase_if(sources, [](const Extent& source) { return source.unwritten; });
  for (Extent& source : sources) {
    source = source.part(first, end, interval_);
    FS_TRY(add_owner(freeing, source));
  }
  for (const Extent& old : FS_TRY(target.overlapping(target_first, target_end, SIZE_MAX))) {
    FS_TRY(target.cut(freeing, old, target_first, target_end, kEndOfFileBlocks));
    shared.block_delta -= old.part(target_first, target_end, interval_).length_blocks;
  }
  for (Extent& source : sources) {
    source.first_block = target_first + (source.first_block - first);
    put_extent(transaction, target.ino_, source);
    shared.blocks_shared += source.length_blocks;
  }
  shared.block_delta += static_cast<int64_t>(shared.blocks_shared);
  freeing.emit();
  shared.healed = std::move(freeing.healed);
  shared.lock = std::move(freeing.lock);
  return shared;
}

}  // namespace stablefs
