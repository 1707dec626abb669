// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel's protocol has and neither libfuse 3.14 nor the headers built against know.
// Numbers and layouts are kernel ABI (include/uapi/linux/fuse.h, protocol 7.45).
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace stablefs {

inline constexpr uint32_t kOpcodeTmpfile = 51;
inline constexpr uint32_t kOpcodeStatx = 52;
inline constexpr uint32_t kOpcodeCopyFileRange64 = 53;
inline constexpr uint32_t kOpcodeLimit = 64;  // counters are kept for opcodes below

inline constexpr uint32_t kProtocolMinor = 45;

// INIT flags by bit; bits from 32 travel in `flags2`.
inline constexpr uint64_t kInitParallelDirops = 1ull << 18;
inline constexpr uint64_t kInitHandleKillprivV2 = 1ull << 28;
inline constexpr uint64_t kInitSetxattrExt = 1ull << 29;
inline constexpr uint64_t kInitExt = 1ull << 30;
inline constexpr uint64_t kInitDirectIoAllowMmap = 1ull << 36;

inline constexpr uint32_t kOpenParallelDirectWrites = 1u << 6;

inline constexpr size_t kHeaderBytes = sizeof(fuse_in_header);
// A WRITE's payload begins behind these.
inline constexpr size_t kWriteHeaderBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kHeaderBytes == 40 && kWriteHeaderBytes == 80);

// A notification, followed by `count` inode numbers: drop their unused names, and so the inodes.
inline constexpr int32_t kNotifyPrune = 9;
struct NotifyPruneOut {
  uint32_t count;
  uint32_t padding;
  uint64_t spare;
};
static_assert(sizeof(NotifyPruneOut) == 16);
// Answer of COPY_FILE_RANGE_64, whose arguments are those of COPY_FILE_RANGE.
struct CopyFileRangeOut {
  uint64_t bytes_copied;
};
static_assert(sizeof(CopyFileRangeOut) == 8 && sizeof(fuse_copy_file_range_in) == 56);

struct StatxIn {
  uint32_t getattr_flags;
  uint32_t reserved;
  uint64_t fh;
  uint32_t statx_flags;
  uint32_t statx_mask;
};
static_assert(sizeof(StatxIn) == 24);

struct StatxTime {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};

struct StatxOut {
  uint64_t attr_valid;
  uint32_t attr_valid_nsec;
  uint32_t flags;
  uint64_t spare[2];
  uint32_t mask;
  uint32_t block_size;
  uint64_t attributes;
  uint32_t link_count;
  uint32_t uid;
  uint32_t gid;
  uint16_t mode;
  uint16_t spare0;
  uint64_t ino;
  uint64_t size;
  uint64_t blocks;
  uint64_t attributes_mask;
  StatxTime access_time, birth_time, change_time, modify_time;
  uint32_t rdev_major, rdev_minor;
  uint32_t dev_major, dev_minor;
  uint64_t spare2[14];
};
static_assert(sizeof(StatxOut) == 288 && offsetof(StatxOut, access_time) == 96);

}  // namespace stablefs
