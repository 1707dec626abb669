// SPDX-License-Identifier: GPL-2.0-or-later
// Superblock: validation, sealing, where the slots are.
#pragma once

#include <array>
#include <span>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "format/ondisk.h"
#include "integrity/tuple.h"

namespace stablefs {

// Bounds that validate_superblock enforces and make_layout keeps.
inline constexpr uint64_t kMaximumDeviceBlocks = 1ull << 40;  // 4 PiB: a 256 MiB space table
inline constexpr uint64_t kMinimumJournalBlocks = 256;        // 1 MiB
inline constexpr uint32_t kMinimumDirtyNodeLimit = 32;
inline constexpr uint32_t kMaximumDirtyNodeLimit = 1u << 20;

// Slots of generation g: {g % 2, 2 + g % 2}.
constexpr Lba superblock_lba(uint64_t slot, uint64_t block_count) {
  return slot < 2 ? Lba(1 + slot) : Lba(block_count - 2 + (slot - 2));
}
constexpr std::array<uint64_t, 2> superblock_slots(Generation generation) {
  return {generation.value % 2, 2 + generation.value % 2};
}

// Checks magic, checksum, version, incompatible features, then every field against the others. The
// same function runs before each write and after each read. `device_blocks`: what the device has.
Status validate_superblock(const DiskSuperblock& superblock, uint64_t device_blocks);

void seal_superblock(DiskSuperblock& superblock);  // computes the checksum
std::string superblock_to_text(const DiskSuperblock& superblock);
std::string uuid_to_text(const uint8_t uuid[16]);

inline Interval interval_of(const DiskSuperblock& superblock) {
  return superblock.interval == 512 ? Interval::sector_512 : Interval::block_4096;
}

// Sizes mkfs chooses; shared with fsck, which checks that regions do not overlap.
struct Layout {
  uint64_t block_count;
  uint64_t journal_start;
  uint64_t journal_length_blocks;
  uint64_t bitmap_start;
  uint64_t space_table_start;
  uint32_t space_table_blocks;
  uint32_t group_count;
  uint64_t first_free;  // first block after the fixed regions
  uint32_t dirty_node_limit;
};
// `journal_blocks` 0: the default, clamp(device / 64, 1 MiB .. 1 GiB, never above device / 8).
// Errors: device_too_small, invalid_argument.
Result<Layout> make_layout(uint64_t block_count, uint64_t journal_blocks);

// Blocks the format itself occupies: boot block, superblock slots, journal, bitmaps, space table.
std::array<BlockRange, 2> fixed_regions(const DiskSuperblock& superblock);

}  // namespace stablefs
