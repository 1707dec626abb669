// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/extent.h"

#include <algorithm>
#include <cstring>

#include "format/items.h"
#include "stablefs/format.h"

namespace stablefs {
namespace {

constexpr size_t kPutOverheadBytes = 1 + 17 + 2;  // opcode, key, length

}  // namespace

Extent Extent::part(uint64_t first, uint64_t end, Interval interval) const {
  const uint64_t from = std::max(first, first_block);
  const uint64_t to = std::min(end, end_block());
  FS_ASSERT(from < to);
  Extent piece;
  piece.first_block = from;
  piece.lba = lba + (from - first_block);
  piece.length_blocks = static_cast<uint32_t>(to - from);
  piece.unwritten = unwritten;
  piece.inline_tuples = inline_tuples;
  if (inline_tuples) {
    const uint32_t per_block = tuples_per_block(interval);
    const auto start = tuples.begin() + static_cast<ptrdiff_t>((from - first_block) * per_block);
    piece.tuples.assign(start, start + static_cast<ptrdiff_t>((to - from) * per_block));
  }
  return piece;
}

bool Extent::mergeable(const Extent& next) const {
  if (end_block() != next.first_block || lba + length_blocks != next.lba) return false;
  if (unwritten != next.unwritten || inline_tuples != next.inline_tuples) return false;
  const uint32_t limit = inline_tuples ? kMaxInlineTupleBlocks : kMaxExtentBlocks;
  return length_blocks + next.length_blocks <= limit;
}

Key extent_key(Ino ino, uint64_t block) {
  return Key(ino, ItemKind::extent, block);
}

Result<Extent> parse_extent(const Item& item, Interval interval) {
  if (const Status valid = validate_item(item.key, item.value, interval); !valid.ok()) {
    return Error(ErrorCode::extent_invalid, valid.error().message());
  }
  DiskExtent disk;
  FS_ASSERT(item.value.size() >= sizeof disk);
  std::memcpy(&disk, item.value.data(), sizeof disk);
  Extent extent;
  extent.first_block = item.key.offset;
  extent.lba = Lba(disk.lba);
  extent.length_blocks = disk.length_blocks;
  extent.unwritten = (disk.flags & kExtentUnwritten) != 0;
  extent.inline_tuples = (disk.flags & kExtentTuplesInline) != 0;
  if (extent.inline_tuples) {
    extent.tuples.resize((item.value.size() - sizeof disk) / sizeof(Tuple));
    std::memcpy(extent.tuples.data(), item.value.data() + sizeof disk,
                extent.tuples.size() * sizeof(Tuple));
  }
  return extent;
}

void put_extent(Transaction& transaction, Ino ino, const Extent& extent) {
  DiskExtent disk{};
  disk.lba = extent.lba.value;
  disk.length_blocks = extent.length_blocks;
  disk.flags = (extent.unwritten ? kExtentUnwritten : 0u) |
               (extent.inline_tuples ? kExtentTuplesInline : 0u);
  std::vector<std::byte> value(sizeof disk + extent.tuples.size() * sizeof(Tuple));
  std::memcpy(value.data(), &disk, sizeof disk);
  if (!extent.tuples.empty()) {
    std::memcpy(value.data() + sizeof disk, extent.tuples.data(),
                extent.tuples.size() * sizeof(Tuple));
  }
  transaction.put(extent_key(ino, extent.first_block), value);
}

size_t extent_operation_bytes(uint32_t inline_tuple_count) {
  return kPutOverheadBytes + sizeof(DiskExtent) + inline_tuple_count * sizeof(Tuple);
}

}  // namespace stablefs
