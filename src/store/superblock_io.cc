// SPDX-License-Identifier: GPL-2.0-or-later
// Finding the newest valid superblock among the four slots.
#include <cstring>

#include "store/store.h"

namespace stablefs {
namespace {

// Keeps the better of `best` and what the block at `lba` holds.
void consider(BlockDevice& device, Lba lba, std::optional<DiskSuperblock>& best,
              std::optional<Error>& why) {
  AlignedBuffer block(kBlockSize);
  Status status = device.read(lba, block.span());
  DiskSuperblock superblock;
  if (status.ok()) {
    std::memcpy(&superblock, block.data(), sizeof superblock);
    status = validate_superblock(superblock, device.block_count());
  }
  if (!status.ok()) {
    // "Not a stablefs filesystem" says least: any better reason replaces it.
    if (!why || why->code() == ErrorCode::superblock_magic) why = status.error();
    return;
  }
  if (!best || superblock.generation > best->generation) best = superblock;
}

}  // namespace

Result<DiskSuperblock> read_superblock(BlockDevice& device) {
  if (device.block_count() < kMinimumDeviceBlocks) return ErrorCode::device_too_small;
  std::optional<DiskSuperblock> best;
  std::optional<Error> why;
  consider(device, superblock_lba(0, 0), best, why);
  consider(device, superblock_lba(1, 0), best, why);
  // The far slots lie at the end of the filesystem, which may be smaller than the device.
  const uint64_t blocks = best ? uint64_t{best->block_count} : device.block_count();
  consider(device, superblock_lba(2, blocks), best, why);
  consider(device, superblock_lba(3, blocks), best, why);
  if (best) return *best;
  return *why;
}

}  // namespace stablefs
