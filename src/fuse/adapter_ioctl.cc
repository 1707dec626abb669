// SPDX-License-Identifier: GPL-2.0-or-later
// ioctl: the flags of an inode in both forms, its generation, the label, trimming, and shutdown.
// Who may change flags, and the immutable one at all, the kernel has checked.
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <array>
#include <cstring>

#include "fuse/adapter.h"

namespace stablefs {
namespace {

// As other filesystems have it: stop at once and write nothing more.
constexpr unsigned kIoctlShutdown = _IOR('X', 125, uint32_t);
constexpr unsigned kGetFlags = FS_IOC_GETFLAGS, kSetFlags = FS_IOC_SETFLAGS;
constexpr unsigned kGetExtendedFlags = FS_IOC_FSGETXATTR, kSetExtendedFlags = FS_IOC_FSSETXATTR;
constexpr unsigned kGetGeneration = FS_IOC_GETVERSION;

static_assert(kInodeImmutable == FS_IMMUTABLE_FL && kInodeAppendOnly == FS_APPEND_FL &&
              kInodeNoDump == FS_NODUMP_FL && kInodeNoAccessTime == FS_NOATIME_FL);

struct FlagPair {
  uint32_t flag;      // FS_*_FL
  uint32_t extended;  // FS_XFLAG_*
};
constexpr FlagPair kFlagPairs[] = {
    {kInodeImmutable, FS_XFLAG_IMMUTABLE},
    {kInodeAppendOnly, FS_XFLAG_APPEND},
    {kInodeNoDump, FS_XFLAG_NODUMP},
    {kInodeNoAccessTime, FS_XFLAG_NOATIME},
};

fsxattr to_extended(uint32_t flags) {
  fsxattr out{};
  for (const FlagPair& pair : kFlagPairs) {
    if ((flags & pair.flag) != 0) out.fsx_xflags |= pair.extended;
  }
  return out;
}

// Extent size hints and projects are not there.
Result<uint32_t> from_extended(const fsxattr& in) {
  uint32_t flags = 0, left = in.fsx_xflags;
  for (const FlagPair& pair : kFlagPairs) {
    if ((left & pair.extended) != 0) flags |= pair.flag;
    left &= ~pair.extended;
  }
  const bool plain =
      left == 0 && in.fsx_extsize == 0 && in.fsx_cowextsize == 0 && in.fsx_projid == 0;
  if (!plain) return ErrorCode::not_supported;
  return flags;
}

template <class T>
void reply_data(fuse_req_t req, const T& data) {
  fuse_reply_ioctl(req, 0, &data, sizeof data);
}

void get_flags(fuse_req_t req, Ino ino, unsigned command) {
  const Result<Attributes> attributes = Adapter::of(req).fs().get_attributes(ino);
  if (!attributes.ok()) return reply_error(req, attributes.error());
  switch (command) {
    case kGetFlags:
      return reply_data(req, attributes->flags);
    case kGetExtendedFlags:
      return reply_data(req, to_extended(attributes->flags));
    default:
      // Not a long, as its number says: programs hand in an int.
      return reply_data(req, attributes->generation);
  }
}

Result<uint32_t> wanted_flags(unsigned command, const void* in, size_t length) {
  if (command == kSetFlags) {
    uint32_t flags = 0;
    if (length < sizeof flags) return ErrorCode::invalid_argument;
    std::memcpy(&flags, in, sizeof flags);
    return flags;
  }
  fsxattr extended;
  if (length < sizeof extended) return ErrorCode::invalid_argument;
  std::memcpy(&extended, in, sizeof extended);
  return from_extended(extended);
}

void set_flags(fuse_req_t req, Ino ino, const Result<uint32_t>& flags) {
  if (!flags.ok()) return reply_error(req, flags.error());
  Adapter& adapter = Adapter::of(req);
  const Status status = adapter.fs().set_flags(ino, *flags);
  if (!status.ok()) return reply_error(req, status.error());
  // The change time, and before the next write(2) into its cache the kernel must ask.
  adapter.invalidate_attributes(ino);
  if (adapter.options().cache == CacheMode::kernel) adapter.stale_times().add(ino);
  fuse_reply_ioctl(req, 0, nullptr, 0);
}

void shut_down(fuse_req_t req) {
  if (!current_caller().may_manage()) return reply_error(req, ErrorCode::not_permitted);
  Adapter::of(req).fs().stop();
  fuse_reply_ioctl(req, 0, nullptr, 0);
}

// FITRIM, as fstrim(8) and `stablefs trim` ask for it.
void trim(fuse_req_t req, const void* in, size_t length) {
  fstrim_range range{};
  if (!current_caller().may_manage()) return reply_error(req, ErrorCode::not_permitted);
  if (length < sizeof range) return reply_error(req, ErrorCode::invalid_argument);
  std::memcpy(&range, in, sizeof range);
  const Result<uint64_t> trimmed = Adapter::of(req).fs().trim(range.start, range.len, range.minlen);
  if (!trimmed.ok()) return reply_error(req, trimmed.error());
  range.len = *trimmed;
  reply_data(req, range);
}

void get_label(fuse_req_t req) {
  std::array<char, FSLABEL_MAX> out{};
  const std::string& label = Adapter::of(req).options().label;
  label.copy(out.data(), out.size() - 1);
  reply_data(req, out);
}

void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void*, fuse_file_info*, unsigned,
              const void* in, size_t in_length, size_t) {
  switch (command) {
    case kIoctlShutdown:
      return shut_down(req);
    case FITRIM:
      return trim(req, in, in_length);
    case kGetFlags:
    case kGetExtendedFlags:
    case kGetGeneration:
      return get_flags(req, Ino(ino), command);
    case FS_IOC_GETFSLABEL:
      return get_label(req);
    case kSetFlags:
    case kSetExtendedFlags:
      return set_flags(req, Ino(ino), wanted_flags(command, in, in_length));
    default:
      fuse_reply_err(req, ENOTTY);
  }
}

}  // namespace

void install_ioctl_operations(fuse_lowlevel_ops& operations) {
  operations.ioctl = op_ioctl;
}

}  // namespace stablefs
