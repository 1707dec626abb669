// SPDX-License-Identifier: GPL-2.0-or-later
// The on-disk format, version 1. All integers little-endian (tuples: big-endian), no padding;
// reserved bytes are zero and validated. Sizes and offsets are asserted in src/format/ondisk.h.
//
//   LBA 0        never written (boot code, partition probing)
//   LBA 1, 2     superblock slots 0 and 1
//   journal      ring of `journal_length_blocks`
//   bitmaps      two slots per group: block bitmap_start + 2 * group + slot
//   space table  two slots of `space_table_blocks`
//   ...          data blocks and tree nodes, allocated by the bitmaps
//   last two     superblock slots 2 and 3
//
// Superblock generation g lives in slot g % 2 and in slot 2 + g % 2.
//
// Everything but file data is an item in one B+tree: key {object, kind, offset} -> value.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace stablefs {

inline constexpr uint64_t kSuperblockMagic = 0x31305346'4C425453ull;  // "STBLFS01"
inline constexpr uint32_t kNodeMagic = 0x444F4E53;                    // "SNOD"
inline constexpr uint32_t kBatchMagic = 0x484A4253;                   // "SBJH"
inline constexpr uint32_t kFormatVersion = 1;

inline constexpr uint64_t kSuperblockSlots = 4;
inline constexpr uint64_t kGroupBlocks = 32768;  // blocks one 4 KiB bitmap block describes: 128 MiB
inline constexpr uint64_t kMinimumDeviceBlocks = 4096;  // 16 MiB

// Key order: object, then kind, then offset. Object 0 holds the global tables; objects from 1 are
// inode numbers.
inline constexpr uint64_t kGlobalObject = 0;

enum class ItemKind : uint8_t {
  inode = 1,        // {ino, 0}: DiskInode
  dirent = 2,       // {directory ino, cookie}: DiskDirent + name
  xattr = 3,        // {ino, name hash | ordinal | chunk}: chunk of DiskXattr + name + value
  inline_data = 4,  // {ino, byte offset}: chunk of a symlink's target (at most kMaxValueBytes each)
  extent = 5,       // {ino, file block}: DiskExtent [+ tuples]
  delta = 6,        // reserved: a logged small write
  orphan = 16,      // {0, ino}: DiskOrphan: work to finish on an inode
  tuples = 17,      // {0, LBA of the first}: tuples of consecutive blocks, at most
                    // kMaxTuplesPerItem; every mapped written block has its tuples here or inline
  reference = 18,   // {0, LBA}: DiskReference: shared blocks only (count >= 2)
  damage = 19,      // {0, LBA}: DiskDamage: the damage list
};

inline constexpr uint32_t kMaxValueBytes = 1000;   // an item's value; larger things are chunked
inline constexpr uint32_t kMaxTuplesPerItem = 64;  // 8-byte tuples in one tuples item
inline constexpr uint32_t kMaxInlineTupleBlocks = 8;
inline constexpr uint32_t kMaxExtentBlocks = 1u << 20;  // 4 GiB
inline constexpr uint32_t kMaxNameBytes = 255;
inline constexpr uint32_t kMaxSymlinkBytes = 4095;
inline constexpr uint64_t kMaxFileBytes = 0x7FFF'FFFF'FFFF'F000ull;  // 8 EiB - 4 KiB

// Directory cookies: 55 bits of keyed SipHash of the name, then an 8-bit ordinal (lowest free when
// the name is added, never changed). The key offset is the readdir cookie. 0-3 and 2^63-1 never
// occur.
inline constexpr uint32_t kDirentOrdinalBits = 8;

// Extended attributes: the offset is 48 bits of the hash that names in directories have, an 8-bit
// ordinal (lowest free when the attribute is made) and the number of the chunk. DiskXattr, name
// and value are one string, cut into chunks of kMaxValueBytes; only the last one is shorter.
inline constexpr uint32_t kXattrOrdinalBits = 8;
inline constexpr uint32_t kXattrChunkBits = 8;
inline constexpr uint32_t kMaxXattrNameBytes = 255;
inline constexpr uint32_t kMaxXattrValueBytes = 65536;
inline constexpr uint32_t kMaxAclBytes = 4096;  // the kernel handles no longer list

// Feature words: an unknown incompatible bit refuses the mount, an unknown read-only-compatible bit
// refuses a writable one, unknown compatible bits are ignored.
enum IncompatibleFeature : uint64_t { kFeatureCopies2 = 1u << 0, kFeatureInterval512 = 1u << 1 };
inline constexpr uint64_t kKnownIncompatible = kFeatureCopies2 | kFeatureInterval512;
inline constexpr uint64_t kKnownReadOnlyCompatible = 0;

enum class GuardFormat : uint8_t { t10_crc16 = 1 };

// Where a node is and how to know it: the checksum covers the whole 4 KiB image.
struct DiskNodePointer {
  le64 lba[2];  // second copy, 0 with copies=1
  le64 generation;
  le32 checksum;  // CRC32C
  le32 reserved;
};

struct DiskKey {
  le64 object;
  le64 offset;
  uint8_t kind;
  uint8_t reserved[7];
};

struct DiskSuperblock {
  le64 magic;
  le32 checksum;  // CRC32C of the 4096 bytes with this field zero
  le32 version;
  le64 incompatible_features;
  le64 read_only_compatible_features;
  le64 compatible_features;
  uint8_t uuid[16];
  char label[64];  // UTF-8, NUL-padded, at most 63 bytes
  uint8_t hash_seed[16];
  le64 block_count;
  le32 block_size;       // 4096
  le32 interval;         // 4096 or 512: bytes a tuple protects
  uint8_t guard_format;  // GuardFormat
  uint8_t copies;        // of tree nodes: 1 or 2
  uint8_t clean;         // 1: unmounted, the journal holds nothing to replay
  uint8_t space_table_slot;
  le32 dirty_node_limit;  // bound on nodes changed between two checkpoints, also in replay
  le64 journal_start;
  le64 journal_length_blocks;
  le64 bitmap_start;
  le64 space_table_start;
  le32 space_table_blocks;  // of one slot
  le32 group_count;
  le64 created_seconds;
  // From here on: changes with every checkpoint.
  le64 generation;
  le64 written_seconds;
  DiskNodePointer root;
  le32 root_level;            // 0: the root is a leaf
  le32 space_table_checksum;  // CRC32C of the current space table slot
  le64 sequence;              // S: every transaction up to S is in this checkpoint
  le64 journal_tail_block;    // ring index of the batch that follows S
  uint8_t epoch[16];          // batches of another epoch are dead history
  le32 journal_chain;         // CRC of the batch before the tail (0 at the epoch's start)
  le32 reserved0;
  le64 flushed_sequence;  // highest sequence known durable when this was written
  le64 next_ino;
  le64 free_blocks;
  le64 mount_count;
  le64 unwritten_blocks;  // of all extents that are unwritten: metadata for them is kept free
  uint8_t reserved[3752];
};

// Header of a tree node. Leaf: `count` DiskSlot follow, values grow down from the end of the block.
// Inner node: `count` DiskChild follow; the first child's key is a lower bound for its subtree.
struct DiskNodeHeader {
  le32 magic;
  le32 checksum;  // CRC32C of the block with this field zero
  le64 generation;
  le64 lba[2];  // where this node belongs
  uint8_t level;
  uint8_t reserved0;
  le16 count;
  le16 heap_start;    // leaf: lowest byte used by a value (4096 when there is none)
  le16 heap_garbage;  // leaf: bytes in the heap that no slot refers to
  uint8_t reserved[24];
};

struct DiskSlot {
  le64 object;
  le64 offset;
  uint8_t kind;
  uint8_t reserved[3];
  le16 value_offset;  // from the start of the block
  le16 value_length;
};

struct DiskChild {
  DiskKey key;
  DiskNodePointer pointer;
};

// Header of a journal batch; `record_bytes` of records follow, zero-padded to whole blocks.
struct DiskBatchHeader {
  le32 magic;
  le32 checksum;  // CRC32C, seeded with the epoch, of header (this field zero) and records
  uint8_t epoch[16];
  le64 first_sequence;  // an empty batch has first = last + 1
  le64 last_sequence;
  le64 flushed_sequence;  // highest sequence whose flush had completed when this was built
  le32 length_blocks;
  le32 record_bytes;
  le32 previous_checksum;  // chain: checksum of the batch before
  le32 record_count;
  uint8_t reserved[64];
};

// A record is one transaction: this header, then `op_count` operations, each a JournalOp byte and
// its operands: put: key 17 bytes {object, offset, kind}, le16 length, value; erase: key;
// allocate, free: le64 lba, le32 length_blocks; data_checksums: le64 lba, le32 n, n x le32 CRC32C.
struct DiskRecordHeader {
  le32 length_bytes;  // with this header
  le32 op_count;
  le64 sequence;
};

enum class JournalOp : uint8_t { put = 1, erase = 2, allocate = 3, free = 4, data_checksums = 5 };

// Space table: one entry a group.
struct DiskSpaceEntry {
  le32 checksum;       // CRC32C of the group's current bitmap block
  le32 free_and_slot;  // bit 31: slot; low 31 bits: free blocks in the group
};

struct DiskTime {
  le64 seconds;  // two's complement
  le32 nanoseconds;
};

struct DiskInode {
  le32 mode;  // S_IFMT and permissions
  le32 uid;
  le32 gid;
  le32 link_count;
  le64 size_bytes;
  le64 block_count;  // data blocks mapped, written and unwritten
  DiskTime access_time;
  DiskTime modify_time;
  DiskTime change_time;
  DiskTime birth_time;
  le32 device;  // of device nodes: (major << 20) | minor
  le32 generation;
  le64 parent;  // directories: the parent's inode number; else 0
  le32 flags;   // InodeFlag
  le16 app_tag;
  le16 reserved0;
  uint8_t reserved[16];
};

// Of Linux: FS_IMMUTABLE_FL and so on.
enum InodeFlag : uint32_t {
  kInodeImmutable = 0x10,
  kInodeAppendOnly = 0x20,
  kInodeNoDump = 0x40,
  kInodeNoAccessTime = 0x80,
};
inline constexpr uint32_t kKnownInodeFlags =
    kInodeImmutable | kInodeAppendOnly | kInodeNoDump | kInodeNoAccessTime;

struct DiskDirent {
  le64 ino;
  uint8_t type;  // DT_*
  uint8_t name_length;
  // name follows
};

struct DiskXattr {
  le32 value_length_bytes;
  uint8_t name_length;  // with its namespace: "user.x"
  uint8_t reserved[3];
  // name and value follow
};

// Value of system.posix_acl_access and system.posix_acl_default, as Linux has it: DiskAclHeader,
// then entries in the order of AclTag, one each of all tags but `user` and `group`; `mask` may be
// missing when there is none of these two. The permissions in an inode's mode are those of its
// access list: `user_object`, `mask` (else `group_object`), `other`; one that says no more than
// that is not kept.
struct DiskAclHeader {
  le32 version;  // 2
};
inline constexpr uint32_t kAclVersion = 2;
enum class AclTag : uint16_t {
  user_object = 0x01,
  user = 0x02,
  group_object = 0x04,
  group = 0x08,
  mask = 0x10,
  other = 0x20,
};
struct DiskAclEntry {
  le16 tag;          // AclTag
  le16 permissions;  // 4 read, 2 write, 1 execute
  le32 id;           // of a user or group, else anything
};

enum ExtentFlag : uint32_t { kExtentUnwritten = 1u << 0, kExtentTuplesInline = 1u << 1 };
inline constexpr uint32_t kKnownExtentFlags = kExtentUnwritten | kExtentTuplesInline;

struct DiskExtent {
  le64 lba;
  le32 length_blocks;
  le32 flags;
  // with kExtentTuplesInline: tuples_per_block * length_blocks tuples follow
};

// What must still be done on an inode after a crash.
enum class OrphanIntent : uint8_t { remove = 1, truncate = 2 };
struct DiskOrphan {
  uint8_t intent;  // OrphanIntent
  uint8_t reserved[7];
  le64 start_block;  // truncate: free every extent from here on
};

struct DiskReference {
  le32 length_blocks;
  le32 count;  // >= 2
};

// A mapped block whose contents could not be had, as first seen. Goes when the block is freed.
enum class DamageKind : uint8_t { guard = 1, app_tag = 2, reference_tag = 3, read_error = 4 };
struct DiskDamage {
  le64 ino;
  le64 file_block;
  DiskTime time;
  le32 expected;  // guard or tag; 0 of a read error
  le32 found;
  uint8_t kind;       // DamageKind
  uint8_t passed_on;  // 1: a shared block, which `ino` has given up since; others map it
  uint8_t reserved[2];
};

}  // namespace stablefs
