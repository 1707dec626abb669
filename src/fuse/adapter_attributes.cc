// SPDX-License-Identifier: GPL-2.0-or-later
// getattr, setattr, statfs.
#include <sys/statvfs.h>

#include "fuse/adapter.h"
#include "fuse/attributes.h"
#include "fuse/caller.h"

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

// The kernel leaves the set-ID bits to us and does not always say so. A request that changes
// nothing comes from chown(2) that names neither owner nor group, and then has the change time if
// the kernel keeps times, or from a call that is about to change contents.
bool says_nothing(const fuse_setattr_in& in) {
  return (in.valid & ~(FATTR_FH | FATTR_LOCKOWNER | FATTR_CTIME)) == 0;
}

bool costs_set_ids(const fuse_setattr_in& in) {
  return (in.valid & (FATTR_KILL_SUIDGID | FATTR_UID | FATTR_GID)) != 0 || says_nothing(in);
}

// Taking the bits away is for the owner, and for who has the file open for writing and changes it.
Status add_set_ids_cost(FileSystem& fs, Ino ino, const fuse_setattr_in& in,
                        AttributeChange& change) {
  change.set_ids = SetIds::clear;
  const Attributes now = FS_TRY(fs.get_attributes(ino));
  const Caller caller = current_caller();
  const SetIds cost = cost_of_change(caller, now);
  if (cost == SetIds::keep) return {};
  change.set_ids = cost;
  change.needs_writer = says_nothing(in) && !caller.may_act_for(now.uid);
  const bool surely_chown = (in.valid & FATTR_CTIME) != 0;
  return change.needs_writer && surely_chown ? ErrorCode::not_permitted : Status();
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
  return change;
}

// Only the kernel itself sets times through an open file: utimensat(2) comes without one, also for
// a descriptor. To refuse it would be reported as lost data.
bool is_of_kernel_cache(const fuse_setattr_in& in, bool through_open_file) {
  return through_open_file && in.valid == (FATTR_MTIME | FATTR_CTIME);
}

Result<Attributes> set_attributes(FileSystem& fs, Ino ino, const fuse_setattr_in& in,
                                  bool through_open_file) {
  AttributeChange change = attribute_change(in);
  change.of_kernel_cache = is_of_kernel_cache(in, through_open_file);
  if (costs_set_ids(in)) FS_TRY(add_set_ids_cost(fs, ino, in, change));
  return fs.set_attributes(ino, change);
}

// libfuse turns FATTR_FH into `file`, and takes it out of the request.
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat*, int, fuse_file_info* file) {
  const auto* in = current_request()->arguments_as<fuse_setattr_in>();
  if (in == nullptr) {
    fuse_reply_err(req, EIO);
    return;
  }
  reply_attributes(req, set_attributes(Adapter::of(req).fs(), Ino(ino), *in, file != nullptr));
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
