// SPDX-License-Identifier: GPL-2.0-or-later
// Reading on-disk structures straight from the device, for the checker and the dump: whatever is
// wrong with a structure is handed on with it, not an end of the reading.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "check/block_set.h"
#include "device/block_device.h"
#include "format/journal.h"
#include "format/node.h"
#include "format/superblock.h"

namespace stablefs {

struct SuperblockSlot {
  uint64_t slot = 0;
  Lba lba;
  DiskSuperblock superblock;  // all zeros when it could not be read
  Status status;
};
// All four; the far ones where the near ones say the end is, else at the end of the device.
std::vector<SuperblockSlot> read_superblock_slots(BlockDevice& device);
const SuperblockSlot* newest_slot(const std::vector<SuperblockSlot>& slots);

// Where the chain of batches behind the checkpoint ends.
struct JournalEnd {
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t ring_block = 0;  // where the next batch would be
  Sequence last;
  Sequence flushed;  // highest sequence the chain or the superblock calls durable
  std::string reason;
};
using BatchVisitor = std::function<void(uint64_t ring_block, const DiskBatchHeader& header,
                                        std::span<const std::byte> batch)>;
Result<JournalEnd> walk_journal(BlockDevice& device, const DiskSuperblock& superblock,
                                const BatchVisitor& visit);
Status read_ring(BlockDevice& device, const DiskSuperblock& superblock, uint64_t ring_block,
                 std::span<std::byte> out);

// A node of the checkpoint's tree as its parent refers to it.
struct RawNode {
  NodeAddress address;
  uint32_t level = 0;
  Key low;                  // of the parent's child entry; minimum for the root
  std::optional<Key> high;  // first key that does not belong here
  Status copies[2];         // [1] is OK with one copy
  bool shared = false;      // reached before, or its address is impossible: not read
  bool out_of_range = false;
  std::span<const std::byte> image;  // empty when no copy is valid
};
// Visits parents before children. Blocks of nodes are added to `seen`; a block that is reached
// twice is not descended into again, so any image ends.
void walk_tree(BlockDevice& device, const DiskSuperblock& superblock, BlockSet& seen,
               const std::function<void(const RawNode&)>& visit);

// Current space table, verified.
Result<std::vector<DiskSpaceEntry>> read_space_table(BlockDevice& device,
                                                     const DiskSuperblock& superblock);
// Current bitmap block of a group into `out` (4096 bytes), verified against its table entry.
Status read_bitmap(BlockDevice& device, const DiskSuperblock& superblock, uint32_t group,
                   const DiskSpaceEntry& entry, std::span<std::byte> out);
inline uint32_t slot_of(const DiskSpaceEntry& entry) {
  return entry.free_and_slot >> 31;
}
inline uint32_t free_of(const DiskSpaceEntry& entry) {
  return entry.free_and_slot & 0x7FFF'FFFFu;
}
uint64_t blocks_of_group(const DiskSuperblock& superblock, uint32_t group);

}  // namespace stablefs
