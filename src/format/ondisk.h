// SPDX-License-Identifier: GPL-2.0-or-later
// The one table of sizes and offsets of everything on disk: a change here is a format change.
#pragma once

#include <cstddef>

#include "stablefs/format.h"

namespace stablefs {

#define FS_SIZE(type, bytes) static_assert(sizeof(type) == (bytes) && alignof(type) == 1)
#define FS_OFFSET(type, member, bytes) static_assert(offsetof(type, member) == (bytes))

FS_SIZE(DiskNodePointer, 32);
FS_OFFSET(DiskNodePointer, generation, 16);
FS_OFFSET(DiskNodePointer, checksum, 24);
FS_SIZE(DiskKey, 24);
FS_OFFSET(DiskKey, offset, 8);
FS_OFFSET(DiskKey, kind, 16);
FS_SIZE(DiskSuperblock, 4096);
FS_OFFSET(DiskSuperblock, checksum, 8);
FS_OFFSET(DiskSuperblock, version, 12);
FS_OFFSET(DiskSuperblock, uuid, 40);
FS_OFFSET(DiskSuperblock, label, 56);
FS_OFFSET(DiskSuperblock, hash_seed, 120);
FS_OFFSET(DiskSuperblock, block_count, 136);
FS_OFFSET(DiskSuperblock, guard_format, 152);
FS_OFFSET(DiskSuperblock, dirty_node_limit, 156);
FS_OFFSET(DiskSuperblock, journal_start, 160);
FS_OFFSET(DiskSuperblock, generation, 208);
FS_OFFSET(DiskSuperblock, root, 224);
FS_OFFSET(DiskSuperblock, root_level, 256);
FS_OFFSET(DiskSuperblock, sequence, 264);
FS_OFFSET(DiskSuperblock, epoch, 280);
FS_OFFSET(DiskSuperblock, journal_chain, 296);
FS_OFFSET(DiskSuperblock, flushed_sequence, 304);
FS_OFFSET(DiskSuperblock, next_ino, 312);
FS_OFFSET(DiskSuperblock, unwritten_blocks, 336);
FS_OFFSET(DiskSuperblock, reserved, 344);
FS_SIZE(DiskNodeHeader, 64);
FS_OFFSET(DiskNodeHeader, generation, 8);
FS_OFFSET(DiskNodeHeader, lba, 16);
FS_OFFSET(DiskNodeHeader, level, 32);
FS_OFFSET(DiskNodeHeader, count, 34);
FS_OFFSET(DiskNodeHeader, heap_start, 36);
FS_SIZE(DiskSlot, 24);
FS_OFFSET(DiskSlot, value_offset, 20);
FS_SIZE(DiskChild, 56);
FS_SIZE(DiskBatchHeader, 128);
FS_OFFSET(DiskBatchHeader, epoch, 8);
FS_OFFSET(DiskBatchHeader, first_sequence, 24);
FS_OFFSET(DiskBatchHeader, length_blocks, 48);
FS_SIZE(DiskRecordHeader, 16);
FS_SIZE(DiskSpaceEntry, 8);
FS_SIZE(DiskTime, 12);
FS_SIZE(DiskInode, 120);
FS_OFFSET(DiskInode, size_bytes, 16);
FS_OFFSET(DiskInode, access_time, 32);
FS_OFFSET(DiskInode, device, 80);
FS_OFFSET(DiskInode, parent, 88);
FS_OFFSET(DiskInode, flags, 96);
FS_SIZE(DiskDirent, 10);
FS_SIZE(DiskXattr, 8);
FS_OFFSET(DiskXattr, name_length, 4);
FS_SIZE(DiskAclHeader, 4);
FS_SIZE(DiskAclEntry, 8);
FS_OFFSET(DiskAclEntry, id, 4);
FS_SIZE(DiskExtent, 16);
FS_SIZE(DiskOrphan, 16);
FS_SIZE(DiskReference, 8);
FS_SIZE(DiskDamage, 40);
FS_OFFSET(DiskDamage, time, 16);
FS_OFFSET(DiskDamage, expected, 28);
FS_OFFSET(DiskDamage, kind, 36);

#undef FS_SIZE
#undef FS_OFFSET

}  // namespace stablefs
