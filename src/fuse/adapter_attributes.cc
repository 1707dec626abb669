// SPDX-License-Identifier: GPL-2.0-or-later
// getattr, setattr, statfs.
#include <sys/statvfs.h>

#include "fuse/adapter.h"
#include "fuse/attributes.h"

namespace stablefs {
namespace {

void reply_attributes(fuse_req_t req, const Result<Attributes>& attributes) {
  if (!attributes.ok()) return reply_error(req, attributes.error());
  const struct stat out = to_stat(*attributes);
  fuse_reply_attr(req, &out, kKeepSeconds);
}

// Through a handle the kernel asks before it takes a write(2) into its cache; fstat(2) comes
// without.
Status may_cache_write(Adapter& adapter, Ino ino, HandleId handle) {
  constexpr uint64_t kEnoughBlocks = 256;
  if (adapter.options().cache == CacheMode::kernel) {
    FS_TRY(adapter.fs().may_cache_write(ino, handle));
  }
  if (!adapter.full_files().contains(ino)) return {};
  if (adapter.fs().statistics().available_blocks < kEnoughBlocks) return ErrorCode::no_space;
  adapter.full_files().remove(ino);
  return {};
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  if (file != nullptr) {
    const Status status = may_cache_write(Adapter::of(req), Ino(ino), file->fh);
    if (!status.ok()) return reply_error(req, status.error());
  }
  reply_attributes(req, Adapter::of(req).fs().get_attributes(Ino(ino)));
}

Timestamp to_timestamp(uint64_t seconds, uint32_t nanoseconds) {
  return {static_cast<int64_t>(seconds), nanoseconds};
}

// chown(2) costs the set-ID bits without the kernel's saying so, also when it names neither owner
// nor group: such a request changes nothing at all.
bool is_chown(const fuse_setattr_in& in) {
  constexpr uint32_t kSaysNothing = FATTR_FH | FATTR_LOCKOWNER | FATTR_CTIME;
  return (in.valid & (FATTR_UID | FATTR_GID)) != 0 || (in.valid & ~kSaysNothing) == 0;
}

// From the protocol's own struct: libfuse passes neither the kill-suid bit nor sizes beyond off_t.
AttributeChange attribute_change(const fuse_setattr_in& in) {
  AttributeChange change;
  if (in.valid & FATTR_MODE) change.mode = in.mode & 07777;
  if (in.valid & FATTR_UID) change.uid = in.uid;
  if (in.valid & FATTR_GID) change.gid = in.gid;
  if (in.valid & FATTR_SIZE) change.size_bytes = in.size;
  if (in.valid & FATTR_ATIME_NOW) {
    change.access_time_now = true;
  } else if (in.valid & FATTR_ATIME) {
    change.access_time = to_timestamp(in.atime, in.atimensec);
  }
  if (in.valid & FATTR_MTIME_NOW) {
    change.modify_time_now = true;
  } else if (in.valid & FATTR_MTIME) {
    change.modify_time = to_timestamp(in.mtime, in.mtimensec);
  }
  if (in.valid & FATTR_CTIME) change.change_time = to_timestamp(in.ctime, in.ctimensec);
  change.clear_suid_sgid = (in.valid & FATTR_KILL_SUIDGID) != 0 || is_chown(in);
  return change;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat*, int, fuse_file_info*) {
  const auto* in = current_request()->arguments_as<fuse_setattr_in>();
  if (in == nullptr) {
    fuse_reply_err(req, EIO);
    return;
  }
  reply_attributes(req, Adapter::of(req).fs().set_attributes(Ino(ino), attribute_change(*in)));
}

void op_statfs(fuse_req_t req, fuse_ino_t) {
  const FsStatistics statistics = Adapter::of(req).fs().statistics();
  struct statvfs out {};
  out.f_bsize = kBlockSize;
  out.f_frsize = kBlockSize;
  out.f_blocks = statistics.total_blocks;
  out.f_bfree = statistics.free_blocks;
  out.f_bavail = statistics.available_blocks;
  out.f_files = statistics.files;
  out.f_ffree = statistics.free_files;
  out.f_favail = statistics.free_files;
  out.f_fsid = statistics.filesystem_id;
  out.f_namemax = statistics.name_bytes_max;
  fuse_reply_statfs(req, &out);
}

}  // namespace

void install_attribute_operations(fuse_lowlevel_ops& operations) {
  operations.getattr = op_getattr;
  operations.setattr = op_setattr;
  operations.statfs = op_statfs;
}

}  // namespace stablefs
