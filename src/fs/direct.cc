// SPDX-License-Identifier: GPL-2.0-or-later
// Direct writes: begun by the caller, answered by whoever finishes the last ordered extent.
#include <algorithm>
#include <utility>

#include "data/direct_write.h"
#include "fs/file_system_impl.h"

namespace stablefs {

void FileSystemImpl::write_direct(Ino ino, HandleId handle, uint64_t offset_bytes,
                                  const BufferSlice& payload, const WriteOptions& options,
                                  DirectDone done) {
  const Result<uint64_t> early = [&]() -> Result<uint64_t> {
    FS_TRY(check_changeable());
    FileUse file = FS_TRY(use_regular_file(ino, handle));
    Inode& inode = file.inode();
    if (payload.size() == 0) return uint64_t{0};
    if (offset_bytes >= kMaxFileBytes) return ErrorCode::file_too_large;
    FS_TRY(check_may_write(file, offset_bytes));
    FS_TRY(apply_set_ids(inode, options.set_ids));
    FS_TRY(drop_capability(inode));
    const BufferSlice used =
        payload.slice(0, std::min<uint64_t>(payload.size(), kMaxFileBytes - offset_bytes));
    if (options.sync == WriteSync::none) {
      auto held = std::make_shared<FileUse>(std::move(file));
      // The answer lets the kernel release the file, so ours must not be its last use after it.
      FS_TRY(begin_direct(inode, offset_bytes, used,
                          [held = std::move(held), done](Result<uint64_t> written) mutable {
                            held.reset();
                            done(std::move(written));
                          }));
      return kBegun;
    }
    return write_direct_synced(file, offset_bytes, used, options.sync);
  }();
  if (!early.ok() || *early != kBegun) done(early);
}

Status FileSystemImpl::begin_direct(Inode& inode, uint64_t offset_bytes, const BufferSlice& payload,
                                    const DirectDone& done) {
  inode.data_used = true;
  FileData& data = inodes_.data_of(inode);
  return with_freed_space([&] { return data.write_direct(offset_bytes, payload, now(), done); });
}

// O_SYNC, O_DSYNC: durable before it is answered.
Result<uint64_t> FileSystemImpl::write_direct_synced(const FileUse& file, uint64_t offset_bytes,
                                                     const BufferSlice& payload, WriteSync sync) {
  const auto written = std::make_shared<DirectAnswer>();
  FS_TRY(begin_direct(file.inode(), offset_bytes, payload,
                      [written](Result<uint64_t> result) { written->set(std::move(result)); }));
  const uint64_t written_bytes = FS_TRY(written->wait());
  FS_TRY(sync_written(file, sync));
  return written_bytes;
}

}  // namespace stablefs
