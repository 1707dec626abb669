// SPDX-License-Identifier: GPL-2.0-or-later
// mkfs: an empty filesystem of generation 1, whose tree is one leaf with the root directory.
#include <sys/stat.h>

#include <cstring>

#include "format/items.h"
#include "store/store.h"
#include "store/tree.h"

namespace stablefs {
namespace {

DiskInode root_inode(const FormatOptions& options) {
  DiskInode inode;
  std::memset(&inode, 0, sizeof inode);
  inode.mode = S_IFDIR | options.root_mode;
  inode.uid = options.root_uid;
  inode.gid = options.root_gid;
  inode.link_count = 2;
  inode.access_time = to_disk(options.created);
  inode.modify_time = to_disk(options.created);
  inode.change_time = to_disk(options.created);
  inode.birth_time = to_disk(options.created);
  inode.parent = kRootIno.value;
  return inode;
}

DiskSuperblock make_superblock(const Layout& layout, const FormatOptions& options) {
  DiskSuperblock s;
  std::memset(&s, 0, sizeof s);
  s.magic = kSuperblockMagic;
  s.version = kFormatVersion;
  s.incompatible_features =
      (options.copies == 2 ? uint64_t{kFeatureCopies2} : 0) |
      (options.interval == Interval::sector_512 ? uint64_t{kFeatureInterval512} : 0);
  std::memcpy(s.uuid, options.uuid.data(), sizeof s.uuid);
  std::memcpy(s.hash_seed, options.hash_seed.data(), sizeof s.hash_seed);
  std::memcpy(s.epoch, options.epoch.data(), sizeof s.epoch);
  std::memcpy(s.label, options.label.data(), std::min(options.label.size(), sizeof s.label - 1));
  s.block_count = layout.block_count;
  s.block_size = kBlockSize;
  s.interval = static_cast<uint32_t>(options.interval);
  s.guard_format = static_cast<uint8_t>(GuardFormat::t10_crc16);
  s.copies = options.copies;
  s.clean = 1;
  s.dirty_node_limit = layout.dirty_node_limit;
  s.journal_start = layout.journal_start;
  s.journal_length_blocks = layout.journal_length_blocks;
  s.bitmap_start = layout.bitmap_start;
  s.space_table_start = layout.space_table_start;
  s.space_table_blocks = layout.space_table_blocks;
  s.group_count = layout.group_count;
  s.created_seconds = static_cast<uint64_t>(options.created.seconds);
  s.generation = 1;
  s.written_seconds = static_cast<uint64_t>(options.created.seconds);
  s.next_ino = kRootIno.value + 1;
  return s;
}

// Writes all bitmaps (slot 0) and the space table (slot 0); returns the table's checksum.
Result<uint32_t> write_space(BlockDevice& device, const Layout& layout,
                             const std::vector<BlockRange>& used, uint64_t& free_blocks) {
  AlignedBuffer table(uint64_t{layout.space_table_blocks} * kBlockSize);
  free_blocks = 0;
  for (uint32_t g = 0; g < layout.group_count; ++g) {
    const uint64_t base = g * kGroupBlocks;
    const uint64_t blocks = std::min(kGroupBlocks, layout.block_count - base);
    AlignedBuffer bitmap(kBlockSize);
    uint64_t free = blocks;
    for (const BlockRange& range : used) {
      uint64_t first = std::max(range.start.value, base);
      uint64_t end = std::min(range.end().value, base + blocks);
      for (uint64_t lba = first; lba < end; ++lba, --free) {
        uint64_t bit = lba - base;
        bitmap.data()[bit / 8] |= static_cast<std::byte>(1u << (bit % 8));
      }
    }
    FS_TRY(device.write(Lba(layout.bitmap_start + 2 * uint64_t{g}), bitmap.span()));
    auto& entry = reinterpret_cast<DiskSpaceEntry*>(table.data())[g];
    entry.checksum = crc32c(0, bitmap.span());
    entry.free_and_slot = static_cast<uint32_t>(free);
    free_blocks += free;
  }
  FS_TRY(device.write(Lba(layout.space_table_start), table.span()));
  return crc32c(0, table.span());
}

}  // namespace

Status format_device(BlockDevice& device, const FormatOptions& options) {
  if (options.copies != 1 && options.copies != 2) return ErrorCode::invalid_argument;
  const Layout layout = FS_TRY(make_layout(device.block_count(), options.journal_blocks));
  DiskSuperblock superblock = make_superblock(layout, options);

  // Old superblocks go first, durably: a crash from here on leaves no filesystem, never a mixture.
  AlignedBuffer zeros(kBlockSize);
  for (uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
    FS_TRY(device.write(superblock_lba(slot, layout.block_count), zeros.span()));
  }
  FS_TRY(device.flush());

  Tree tree{Generation(1)};
  const DiskInode root = root_inode(options);
  tree.put(Key(kRootIno, ItemKind::inode, 0),
           std::as_bytes(std::span<const DiskInode, 1>(&root, 1)));
  std::vector<NodeRef> nodes = tree.freeze();
  Node& leaf = *nodes.front();
  leaf.lba[0] = Lba(layout.first_free);
  if (options.copies == 2) leaf.lba[1] = Lba(layout.first_free + layout.block_count / 2);
  AlignedBuffer image(kBlockSize);
  Tree::build_image(leaf, image.span());

  std::vector<BlockRange> used;
  for (const BlockRange& region : fixed_regions(superblock)) used.push_back(region);
  for (Lba lba : leaf.lba) {
    if (lba.value == 0) continue;
    used.push_back({lba, 1});
    FS_TRY(device.write(lba, image.span()));
  }
  uint64_t free_blocks = 0;
  superblock.space_table_checksum = FS_TRY(write_space(device, layout, used, free_blocks));
  superblock.free_blocks = free_blocks;
  superblock.root = to_disk(leaf.address());
  superblock.root_level = 0;
  // The first journal block must not look like a batch of an earlier filesystem; the epoch sees to
  // it for all others.
  FS_TRY(device.write(Lba(layout.journal_start), zeros.span()));
  FS_TRY(device.flush());

  seal_superblock(superblock);
  FS_TRY(validate_superblock(superblock, device.block_count()));
  AlignedBuffer block(kBlockSize);
  std::memcpy(block.data(), &superblock, sizeof superblock);
  for (uint64_t slot : superblock_slots(Generation(1))) {
    FS_TRY(device.write(superblock_lba(slot, layout.block_count), block.span(), true));
  }
  return {};
}

}  // namespace stablefs
