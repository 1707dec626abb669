// SPDX-License-Identifier: GPL-2.0-or-later
// Open files and their contents. The flags of an open file do not limit what is read or written
// through it: the kernel reads pages through files opened for writing only, and writes them back
// through any file it likes.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {

Result<FileSystemImpl::FileUse> FileSystemImpl::use_file(Ino ino, HandleId handle) {
  FileUse file;
  if (handle == 0) {
    file.use = FS_TRY(use_contents(ino));
  } else {
    file.open = handles_.get(handle);
    if (!file.open || file.open->use->ino() != ino) return ErrorCode::bad_handle;
  }
  return file;
}

Result<FileSystemImpl::FileUse> FileSystemImpl::use_regular_file(Ino ino, HandleId handle) {
  FileUse file = FS_TRY(use_file(ino, handle));
  if (file.inode().is_directory()) return ErrorCode::is_a_directory;
  if (!file.inode().is_regular()) return ErrorCode::invalid_argument;
  return file;
}

Result<HandleId> FileSystemImpl::open_file(Ino ino, const OpenFlags& flags) {
  FS_TRY(check_running());
  if (flags.write || flags.truncate) FS_TRY(check_changeable());
  ContentsUse use = FS_TRY(use_contents(ino));
  if (use->is_directory()) return ErrorCode::is_a_directory;
  if (!use->is_regular()) return ErrorCode::not_supported;
  FS_TRY(check_may_open(*use, flags));
  FS_TRY(apply_set_ids(*use, flags.set_ids));
  if (flags.truncate) FS_TRY(truncate(*use, 0));
  return handles_.add(std::make_shared<OpenFile>(std::move(use), flags, *health_));
}

void FileSystemImpl::release(HandleId handle) {
  handles_.remove(handle);
}

// What is open for writing too is mostly open for writing: that its pages were read here tells
// nothing.
bool FileSystemImpl::note_cached_reads(HandleId handle) {
  const std::shared_ptr<OpenFile> open = handles_.get(handle);
  return open && !open->flags.write && note_access(*open->use);
}

Result<uint64_t> FileSystemImpl::read(Ino ino, HandleId handle, uint64_t offset_bytes,
                                      std::span<std::byte> out) {
  FS_TRY(check_running());
  const FileUse file = FS_TRY(use_regular_file(ino, handle));
  Inode& inode = file.inode();
  if (offset_bytes >= kMaxFileBytes || out.empty()) return 0;
  const uint64_t length_bytes = std::min<uint64_t>(out.size(), kMaxFileBytes - offset_bytes);
  const bool direct = file.open && file.open->flags.direct;
  const uint64_t done_bytes = FS_TRY(inodes_.data_of(inode).read(
      offset_bytes, out.first(length_bytes), direct ? ReadCache::no : ReadCache::keep));
  if (!file.open || !file.open->flags.keep_access_time) note_access(inode);
  return done_bytes;
}

Result<uint64_t> FileSystemImpl::write(Ino ino, HandleId handle, uint64_t offset_bytes,
                                       const BufferSlice& payload, const WriteOptions& options) {
  FS_TRY(check_changeable());
  const FileUse file = FS_TRY(use_regular_file(ino, handle));
  Inode& inode = file.inode();
  if (payload.size() == 0) return 0;
  if (offset_bytes >= kMaxFileBytes) return ErrorCode::file_too_large;
  if (options.origin == WriteOrigin::caller) FS_TRY(check_may_write(file, offset_bytes));
  FS_TRY(apply_set_ids(inode, options.set_ids));
  FS_TRY(drop_capability(inode));
  const uint64_t room_bytes = kMaxFileBytes - offset_bytes;
  const auto time =
      options.origin == WriteOrigin::kernel_cache ? std::nullopt : std::optional(now());
  const uint64_t done_bytes =
      payload.size() <= room_bytes
          ? FS_TRY(write_data(inode, offset_bytes, payload, time))
          : FS_TRY(write_data(inode, offset_bytes, payload.slice(0, room_bytes), time));
  // For what goes through its cache the kernel sends an fsync of its own.
  const bool past_the_kernel_cache = options.origin == WriteOrigin::caller;
  const bool all = options.sync == WriteSync::all || (file.open && file.open->flags.sync);
  const bool synchronous =
      all || options.sync == WriteSync::data || (file.open && file.open->flags.data_sync);
  if (past_the_kernel_cache && synchronous) {
    FS_TRY(sync_written(file, all ? WriteSync::all : WriteSync::data));
  }
  return done_bytes;
}

// Append-only: behind the end, through a file opened for it (and it may have been told to forget
// that since).
Status FileSystemImpl::check_may_write(const FileUse& file, uint64_t offset_bytes) {
  Inode& inode = file.inode();
  FS_TRY(refuse_flags(inode, kInodeImmutable));
  if ((inode.flags & kInodeAppendOnly) == 0) return {};
  MutexLock lock(inode.state.mutex);
  const bool appends =
      file.open && file.open->flags.append && offset_bytes >= inode.state.attributes.size_bytes;
  return appends ? Status() : ErrorCode::not_permitted;
}

Result<uint64_t> FileSystemImpl::write_data(Inode& inode, uint64_t offset_bytes,
                                            const BufferSlice& payload,
                                            std::optional<Timestamp> time) {
  inode.data_used = true;
  FileData& data = inodes_.data_of(inode);
  auto written = with_freed_space([&] { return data.write(offset_bytes, payload, time); });
  flusher_.mark(inode);
  return written;
}

Status FileSystemImpl::punch(Ino ino, HandleId handle, uint64_t offset_bytes,
                             uint64_t length_bytes) {
  return change_range(ino, handle, length_bytes, [&](FileData& data) {
    return data.punch(offset_bytes, length_bytes, now());
  });
}

Status FileSystemImpl::zero(Ino ino, HandleId handle, uint64_t offset_bytes, uint64_t length_bytes,
                            bool keep_size) {
  return change_range(ino, handle, length_bytes, [&](FileData& data) {
    return data.zero(offset_bytes, length_bytes, keep_size, now());
  });
}

Status FileSystemImpl::allocate(Ino ino, HandleId handle, uint64_t offset_bytes,
                                uint64_t length_bytes, bool keep_size) {
  return change_range(ino, handle, length_bytes, [&](FileData& data) {
    return data.allocate(offset_bytes, length_bytes, keep_size, now());
  });
}

Status FileSystemImpl::change_range(Ino ino, HandleId handle, uint64_t length_bytes,
                                    const std::function<Status(FileData&)>& change) {
  FS_TRY(check_changeable());
  const FileUse file = FS_TRY(use_regular_file(ino, handle));
  Inode& inode = file.inode();
  if (length_bytes == 0) return ErrorCode::invalid_argument;
  FS_TRY(check_not_fixed(inode));
  FS_TRY(drop_capability(inode));
  inode.data_used = true;
  FileData& data = inodes_.data_of(inode);
  Status changed = with_freed_space([&] { return change(data); });
  flusher_.mark(inode);
  FS_TRY(std::move(changed));
  return sync_if_synchronous(file);
}

// After what the kernel sends no fsync of its own for.
Status FileSystemImpl::sync_if_synchronous(const FileUse& file) {
  const bool synchronous = file.open && (file.open->flags.sync || file.open->flags.data_sync);
  if (!synchronous) return {};
  return sync_written(file, file.open->flags.sync ? WriteSync::all : WriteSync::data);
}

Status FileSystemImpl::sync_written(const FileUse& file, WriteSync sync) {
  const Status synced = sync_inode(file.inode(), sync == WriteSync::data);
  if (!synced.ok() && file.open) file.open->note_told(*health_);
  return synced;
}

Status FileSystemImpl::flush(Ino ino, HandleId handle) {
  FS_TRY(check_running());
  const FileUse file = FS_TRY(use_file(ino, handle));
  if (!file.open) return {};
  FS_TRY(file.open->report_errors());
  if (health_->allows(Activity::commit) || !may_have_lost(file.inode())) return {};
  return file.open->report_halt();
}

// Something of the file is not on stable storage.
bool FileSystemImpl::may_have_lost(Inode& inode) {
  FileData* data = inode.data();
  if (data != nullptr && (data->has_dirty_pages() || data->has_lost_pages())) return true;
  MutexLock lock(inode.state.mutex);
  return inode.state.item_dirty || inode.state.last_sequence > store_->durable_sequence();
}

Status FileSystemImpl::sync_inode(Inode& inode, bool data_only) {
  FS_TRY(health_->check(Activity::commit));
  if (inode.data()) FS_TRY(inode.data()->write_back());
  // Sizes are committed with the data: what is only in the item are times.
  if (!data_only) FS_TRY(flusher_.commit_item(inode));
  // Not only up to the inode's last transaction: fsync promises all that was answered before it.
  return store_->sync(store_->last_sequence());
}

Status FileSystemImpl::fsync(Ino ino, HandleId handle, bool data_only) {
  FS_TRY(check_running());
  if (options_.read_only) return {};
  if (handle == 0) {
    const InodeRef inode = FS_TRY(inodes_.get(ino));
    return sync_inode(*inode, data_only);
  }
  const FileUse file = FS_TRY(use_file(ino, handle));
  const Status synced = sync_inode(file.inode(), data_only);
  // An error of this very call is in the count too: it is told once, by what is returned now.
  if (synced.ok()) return file.open->report_errors();
  file.open->note_told(*health_);
  return synced;
}

Result<uint64_t> FileSystemImpl::seek(Ino ino, HandleId handle, uint64_t offset_bytes, bool hole,
                                      const std::function<bool()>& settle) {
  FS_TRY(check_running());
  const FileUse file = FS_TRY(use_file(ino, handle));
  Inode& inode = file.inode();
  if (!inode.is_regular()) return ErrorCode::invalid_argument;
  // Whatever the cache mode, the file may be mapped.
  if (inode.writers == 0 || (settle && settle())) {
    return inodes_.data_of(inode).seek(offset_bytes, hole);
  }
  // The kernel may hold pages we know nothing of, also behind the size we know: no place may be
  // called a hole, and the end of the file is beyond what we can tell.
  if (!hole && offset_bytes >= kMaxFileBytes) return ErrorCode::seek_beyond_end;  // loops end
  if (!hole) return offset_bytes;
  MutexLock lock(inode.state.mutex);
  const uint64_t size_bytes = inode.state.attributes.size_bytes;
  return offset_bytes < size_bytes ? size_bytes : kMaxFileBytes;
}

}  // namespace stablefs
