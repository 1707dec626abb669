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
  const FileUse from = FS_TRY(use_regular_file(source.ino, source.handle));
  const FileUse to = FS_TRY(use_regular_file(target.ino, target.handle));
  if (target.offset_bytes >= kMaxFileBytes) return ErrorCode::file_too_large;
  FS_TRY(check_not_fixed(to.inode()));
  FS_TRY(drop_capability(to.inode()));
  length_bytes = std::min(length_bytes, kMaxFileBytes - target.offset_bytes);
  const uint64_t done = FS_TRY(with_freed_space(
      [&] { return copy_data(from.inode(), to.inode(), source, target, length_bytes); }));
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
