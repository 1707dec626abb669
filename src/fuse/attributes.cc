// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/attributes.h"

#include <sys/sysmacros.h>

namespace stablefs {
namespace {

constexpr uint64_t kSectorsPerBlock = kBlockSize / 512;

timespec to_timespec(const Timestamp& time) {
  return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

StatxTime to_statx_time(const Timestamp& time) {
  return {.seconds = time.seconds, .nanoseconds = time.nanoseconds, .reserved = 0};
}

}  // namespace

struct stat to_stat(const Attributes& attributes) {
  struct stat out {};
  out.st_ino = attributes.ino.value;
  out.st_mode = attributes.mode;
  out.st_nlink = attributes.link_count;
  out.st_uid = attributes.uid;
  out.st_gid = attributes.gid;
  out.st_rdev = makedev(attributes.device_major, attributes.device_minor);
  out.st_size = static_cast<off_t>(attributes.size_bytes);
  out.st_blksize = kBlockSize;
  out.st_blocks = static_cast<blkcnt_t>(attributes.block_count * kSectorsPerBlock);
  out.st_atim = to_timespec(attributes.access_time);
  out.st_mtim = to_timespec(attributes.modify_time);
  out.st_ctim = to_timespec(attributes.change_time);
  return out;
}

StatxOut to_statx(const Attributes& attributes) {
  constexpr uint32_t kBasicStatsAndBirthTime = STATX_BASIC_STATS | STATX_BTIME;
  StatxOut out{};
  out.attr_valid = kKeepSeconds;
  out.mask = kBasicStatsAndBirthTime;
  out.block_size = kBlockSize;
  out.link_count = attributes.link_count;
  out.uid = attributes.uid;
  out.gid = attributes.gid;
  out.mode = static_cast<uint16_t>(attributes.mode);
  out.ino = attributes.ino.value;
  out.size = attributes.size_bytes;
  out.blocks = attributes.block_count * kSectorsPerBlock;
  out.access_time = to_statx_time(attributes.access_time);
  out.birth_time = to_statx_time(attributes.birth_time);
  out.change_time = to_statx_time(attributes.change_time);
  out.modify_time = to_statx_time(attributes.modify_time);
  out.rdev_major = attributes.device_major;
  out.rdev_minor = attributes.device_minor;
  return out;
}

fuse_entry_param to_entry(const Attributes& attributes) {
  fuse_entry_param entry{};
  entry.ino = attributes.ino.value;
  entry.generation = attributes.generation;
  entry.attr = to_stat(attributes);
  entry.attr_timeout = kKeepSeconds;
  entry.entry_timeout = kKeepSeconds;
  return entry;
}

fuse_entry_param absent_entry() {
  fuse_entry_param entry{};
  entry.entry_timeout = kKeepSeconds;
  return entry;
}

}  // namespace stablefs
