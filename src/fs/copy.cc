// SPDX-License-Identifier: GPL-2.0-or-later
// copy_file_range(2).
#include <algorithm>

#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {

Result<uint64_t> FileSystemImpl::copy_range(const CopyPlace& source, const CopyPlace& target,
                                            uint64_t length_bytes, uint64_t flags) {
  FS_TRY(check_changeable());
  if (flags != 0) return ErrorCode::invalid_argument;
  const FileUse from = FS_TRY(use_file(source.ino, source.handle));
  const FileUse to = FS_TRY(use_file(target.ino, target.handle));
  for (const FileUse* file : {&from, &to}) {
    Inode& inode = file->inode();
    if (inode.is_regular()) continue;
    return inode.is_directory() ? ErrorCode::is_a_directory : ErrorCode::invalid_argument;
  }
  if (target.offset_bytes >= kMaxFileBytes) return ErrorCode::file_too_large;
  FS_TRY(check_not_fixed(to.inode()));
  FS_TRY(drop_capability(to.inode()));
  length_bytes = std::min(length_bytes, kMaxFileBytes - target.offset_bytes);
  auto copied = copy_data(from.inode(), to.inode(), source, target, length_bytes);
  const bool full = !copied.ok() && copied.error().code() == ErrorCode::no_space;
  if (full && orphans_.drain()) {
    copied = copy_data(from.inode(), to.inode(), source, target, length_bytes);
  }
  const uint64_t done = FS_TRY(std::move(copied));
  if (done == 0) return done;
  if (!from.open || !from.open->flags.keep_access_time) note_access(from.inode());
  FS_TRY(sync_if_synchronous(to));
  return done;
}

Result<uint64_t> FileSystemImpl::copy_data(Inode& source, Inode& target, const CopyPlace& from,
                                           const CopyPlace& to, uint64_t length_bytes) {
  target.data_used = true;
  FileData& data = inodes_.data_of(source);
  FileData& target_data = inodes_.data_of(target);
  const Timestamp time = now();
  auto copied =
      data.copy_range(from.offset_bytes, target_data, to.offset_bytes, length_bytes, time);
  // The kernel's cache knows better how long the file is, and asks for nothing behind its end: what
  // lies behind the end we know is a hole whose other side has not been written back.
  const bool kernel_knows = options_.cache == CacheMode::kernel && source.writers != 0;
  if (copied.ok() && *copied == 0 && kernel_knows) {
    const Status zeroed =
        target_data.zero(to.offset_bytes, length_bytes, /*keep_size=*/false, time);
    copied = zeroed.ok() ? Result<uint64_t>(length_bytes) : Result<uint64_t>(zeroed.error());
  }
  flusher_.mark(target);
  return copied;
}

}  // namespace stablefs
