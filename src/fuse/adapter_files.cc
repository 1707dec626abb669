// SPDX-License-Identifier: GPL-2.0-or-later
// Open files. OPEN, RELEASE and FLUSH are always served: once OPEN was answered ENOSYS, truncation
// on open would be lost.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fuse/adapter.h"
#include "fuse/attributes.h"
#include "fuse/caller.h"

namespace stablefs {
namespace {

// In cache=kernel the kernel also counts blocks from what it last asked; elsewhere it asks again
// after every write by itself.
void let_kernel_ask_again(Adapter& adapter, Ino ino) {
  adapter.invalidate_attributes(ino);
}

// What the request costs the file's set-ID bits, when the kernel asked for it.
Result<SetIds> set_ids_cost(FileSystem& fs, Ino ino, bool asked) {
  if (!asked) return SetIds::keep;
  const Attributes now = FS_TRY(fs.get_attributes(ino));
  return cost_of_change(current_caller(), now);
}

// The mode changed without a SETATTR, so the kernel would go on showing the old one; also when the
// request failed since.
void show_set_ids(Adapter& adapter, Ino ino, SetIds set_ids) {
  if (set_ids != SetIds::keep) let_kernel_ask_again(adapter, ino);
}

void op_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  const auto* in = current_request()->arguments_as<fuse_open_in>();
  const bool kill = in != nullptr && (in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
  const Result<SetIds> set_ids = set_ids_cost(adapter.fs(), Ino(ino), kill);
  if (!set_ids.ok()) return reply_error(req, set_ids.error());
  OpenFlags flags = open_flags(adapter, file->flags);
  flags.set_ids = *set_ids;
  const Result<HandleId> handle = adapter.fs().open_file(Ino(ino), flags);
  if (!handle.ok()) return reply_error(req, handle.error());
  show_set_ids(adapter, Ino(ino), *set_ids);
  file->fh = *handle;
  set_open_reply(adapter, Ino(ino), *file);
  // The caller was interrupted: there will be no RELEASE.
  if (fuse_reply_open(req, file) == -ENOENT) {
    take_back_open_reply(adapter, Ino(ino));
    adapter.fs().release(*handle);
  }
}

Result<std::pair<Attributes, HandleId>> create(fuse_req_t req, Ino parent, std::string_view name,
                                               mode_t mode, int flags) {
  Adapter& adapter = Adapter::of(req);
  FS_TRY(check_name_length(name));
  const NewFile file = FS_TRY(new_file(req, parent, (mode & 07777) | S_IFREG));
  const OpenFlags open = open_flags(adapter, flags);
  if (current_request()->unnamed) return adapter.fs().create_unnamed(parent, file, open);
  auto created = adapter.fs().create(parent, name, file, open);
  if (created.ok() || created.error().code() != ErrorCode::exists || (flags & O_EXCL) != 0) {
    return created;
  }
  // The kernel looked before, so somebody made the file since.
  const Attributes found = FS_TRY(adapter.fs().lookup(parent, name));
  Result<HandleId> handle = adapter.fs().open_file(found.ino, open);
  if (!handle.ok()) {
    adapter.fs().forget(found.ino, 1);
    return handle.error();
  }
  return std::pair(found, *handle);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  const auto created = create(req, Ino(parent), name, mode, file->flags);
  if (!created.ok()) return reply_error(req, created.error());
  const fuse_entry_param entry = to_entry(created->first);
  file->fh = created->second;
  set_open_reply(adapter, created->first.ino, *file);
  if (fuse_reply_create(req, &entry, file) == -ENOENT) {
    take_back_open_reply(adapter, created->first.ino);
    adapter.fs().release(created->second);
    adapter.fs().forget(created->first.ino, 1);
  }
}

void op_release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  adapter.fs().release(file->fh);
  if (adapter.io_modes().release(Ino(ino))) {
    adapter.stale_times().add(Ino(ino));
  } else {
    adapter.stale_times().hasten(Ino(ino));
  }
  fuse_reply_err(req, 0);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  adapter.full_files().remove(Ino(ino));
  if (adapter.fs().note_cached_reads(file->fh)) let_kernel_ask_again(adapter, Ino(ino));
  reply_status(req, adapter.fs().flush(Ino(ino), file->fh));
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  adapter.full_files().remove(Ino(ino));
  const Status status = adapter.fs().fsync(Ino(ino), file->fh, data_only != 0);
  // The blocks are allocated now, which the kernel's writeback cache does not learn by itself.
  if (status.ok() && data_only == 0 && adapter.options().cache == CacheMode::kernel) {
    let_kernel_ask_again(adapter, Ino(ino));
  }
  reply_status(req, status);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* file) {
  const std::span<std::byte> memory = current_request()->reply_memory;
  const std::span<std::byte> out = memory.first(std::min(size, memory.size()));
  const Result<uint64_t> read =
      Adapter::of(req).fs().read(Ino(ino), file->fh, static_cast<uint64_t>(offset), out);
  if (!read.ok()) return reply_error(req, read.error());
  fuse_reply_buf(req, reinterpret_cast<const char*>(out.data()), *read);
}

// Writes until all is done or an error tells why not. For pages from the kernel's cache: it looks
// at the error of such a reply only, never at a short count, so one would lose the rest unseen.
Result<uint64_t> write_all(FileSystem& fs, Ino ino, HandleId handle, uint64_t offset,
                           const BufferSlice& payload, const WriteOptions& options) {
  uint64_t done = 0;
  while (done < payload.size()) {
    done += FS_TRY(
        fs.write(ino, handle, offset + done, payload.slice(done, payload.size() - done), options));
  }
  return done;
}

// As the flags of the open file are at the time of the write, and with what the call itself asks.
WriteSync sync_of(uint32_t flags) {
  if ((flags & O_SYNC) == O_SYNC) return WriteSync::all;
  return (flags & O_DSYNC) != 0 ? WriteSync::data : WriteSync::none;
}

// Answered by whoever finishes it; no thread of ours waits.
void write_direct(fuse_req_t req, Ino ino, HandleId handle, uint64_t offset,
                  const BufferSlice& payload, const WriteOptions& options) {
  Adapter& adapter = Adapter::of(req);
  const SetIds set_ids = options.set_ids;
  adapter.fs().write_direct(ino, handle, offset, payload, options,
                            [req, ino, set_ids, &adapter](const Result<uint64_t>& written) {
                              show_set_ids(adapter, ino, set_ids);
                              if (!written.ok()) return reply_error(req, written.error());
                              fuse_reply_write(req, *written);
                            });
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char*, size_t size, off_t offset,
              fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  Request& request = *current_request();
  const auto* in = request.arguments_as<fuse_write_in>();
  if (in == nullptr || size > request.payload.size()) {
    fuse_reply_err(req, EIO);
    return;
  }
  const bool kill = (in->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  const Result<SetIds> set_ids = set_ids_cost(adapter.fs(), Ino(ino), kill);
  if (!set_ids.ok()) return reply_error(req, set_ids.error());
  WriteOptions options{.set_ids = *set_ids, .sync = sync_of(in->flags)};
  const BufferSlice payload = request.payload.slice(0, size);
  request.payload = {};
  const bool cached = (in->write_flags & FUSE_WRITE_CACHE) != 0;
  if (!cached && adapter.options().cache == CacheMode::kernel) {
    adapter.io_modes().note_written(Ino(ino));
  }
  if (!cached && (in->flags & O_DIRECT) != 0) {
    return write_direct(req, Ino(ino), file->fh, static_cast<uint64_t>(offset), payload, options);
  }
  if (cached) {
    options.origin = adapter.options().cache == CacheMode::kernel ? WriteOrigin::kernel_cache
                                                                  : WriteOrigin::mapping;
  }
  FileSystem& fs = adapter.fs();
  const auto offset_bytes = static_cast<uint64_t>(offset);
  const Result<uint64_t> written =
      cached ? write_all(fs, Ino(ino), file->fh, offset_bytes, payload, options)
             : fs.write(Ino(ino), file->fh, offset_bytes, payload, options);
  show_set_ids(adapter, Ino(ino), *set_ids);
  if (!written.ok()) {
    if (options.origin == WriteOrigin::kernel_cache &&
        written.error().code() == ErrorCode::no_space) {
      adapter.full_files().add(Ino(ino));
      let_kernel_ask_again(adapter, Ino(ino));
    }
    return reply_error(req, written.error());
  }
  fuse_reply_write(req, *written);
}

// Moving what lies behind is not there.
Status allocate(FileSystem& fs, Ino ino, HandleId handle, int mode, uint64_t offset,
                uint64_t length) {
  switch (mode) {
    case 0:
    case FALLOC_FL_KEEP_SIZE:
      return fs.allocate(ino, handle, offset, length, mode != 0);
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
      return fs.punch(ino, handle, offset, length);
    case FALLOC_FL_ZERO_RANGE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return fs.zero(ino, handle, offset, length, (mode & FALLOC_FL_KEEP_SIZE) != 0);
    default:
      return ErrorCode::not_supported;
  }
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info* file) {
  Adapter& adapter = Adapter::of(req);
  const Status status = allocate(adapter.fs(), Ino(ino), file->fh, mode,
                                 static_cast<uint64_t>(offset), static_cast<uint64_t>(length));
  if (!status.ok()) return reply_error(req, status.error());
  reply_status(req, clear_set_ids(adapter, Ino(ino), current_caller()));
}

// The answer has room for 32 bits.
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in, fuse_file_info* file_in,
                        fuse_ino_t ino_out, off_t offset_out, fuse_file_info* file_out,
                        size_t length, int flags) {
  constexpr uint64_t kLengthMax = UINT32_MAX / kBlockSize * kBlockSize;
  const CopyPlace source{Ino(ino_in), file_in->fh, static_cast<uint64_t>(offset_in)};
  const CopyPlace target{Ino(ino_out), file_out->fh, static_cast<uint64_t>(offset_out)};
  const auto copied =
      Adapter::of(req).copy_file_range(source, target, std::min<uint64_t>(length, kLengthMax),
                                       static_cast<uint64_t>(flags), current_caller());
  if (!copied.ok()) return reply_error(req, copied.error());
  fuse_reply_write(req, *copied);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info* file) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) {
    fuse_reply_err(req, EINVAL);
    return;
  }
  Adapter& adapter = Adapter::of(req);
  const Result<uint64_t> found =
      adapter.fs().seek(Ino(ino), file->fh, static_cast<uint64_t>(offset), whence == SEEK_HOLE,
                        [&] { return adapter.take_over_cached_writes(Ino(ino)); });
  if (!found.ok()) return reply_error(req, found.error());
  fuse_reply_lseek(req, static_cast<off_t>(*found));
}

}  // namespace

Status clear_set_ids(Adapter& adapter, Ino ino, const Caller& caller) {
  const Attributes now = FS_TRY(adapter.fs().get_attributes(ino));
  const SetIds cost = cost_of_change(caller, now);
  if (cost == SetIds::keep || caller.may_keep_set_ids()) return {};
  AttributeChange change;
  change.set_ids = cost;
  FS_TRY(adapter.fs().set_attributes(ino, change));
  show_set_ids(adapter, ino, cost);
  return {};
}

// The kernel does not expect that the file has got blocks by this.
Result<uint64_t> Adapter::copy_file_range(const CopyPlace& source, const CopyPlace& target,
                                          uint64_t length_bytes, uint64_t flags,
                                          const Caller& caller) {
  const uint64_t copied = FS_TRY(fs_.copy_range(source, target, length_bytes, flags));
  FS_TRY(clear_set_ids(*this, target.ino, caller));
  let_kernel_ask_again(*this, target.ino);
  return copied;
}

OpenFlags open_flags(const Adapter& adapter, int flags) {
  const int access = flags & O_ACCMODE;
  OpenFlags open;
  open.write = access != O_RDONLY;
  // The writeback cache reads the rest of a partly written page through any handle.
  open.read = access != O_WRONLY || adapter.options().cache == CacheMode::kernel;
  open.truncate = (flags & O_TRUNC) != 0;
  open.direct = (flags & O_DIRECT) != 0;
  open.append = (flags & O_APPEND) != 0;
  open.sync = (flags & O_SYNC) == O_SYNC;
  open.data_sync = (flags & O_DSYNC) != 0;
  open.keep_access_time = (flags & O_NOATIME) != 0;
  return open;
}

void set_open_reply(Adapter& adapter, Ino ino, fuse_file_info& file) {
  file.keep_cache = 1;
  const bool bypass = adapter.options().cache == CacheMode::daemon || (file.flags & O_DIRECT) != 0;
  const IoMode mode = adapter.io_modes().open(ino, bypass ? IoMode::direct : IoMode::cached);
  if (mode == IoMode::cached) return;
  adapter.stale_times().remove(ino);
  file.direct_io = 1;
  current_request()->extra_open_flags |= kOpenParallelDirectWrites;
}

void take_back_open_reply(Adapter& adapter, Ino ino) {
  adapter.io_modes().release(ino);
}

void install_file_operations(fuse_lowlevel_ops& operations) {
  operations.open = op_open;
  operations.create = op_create;
  operations.release = op_release;
  operations.flush = op_flush;
  operations.fsync = op_fsync;
  operations.read = op_read;
  operations.write = op_write;
  operations.fallocate = op_fallocate;
  operations.copy_file_range = op_copy_file_range;
  operations.lseek = op_lseek;
}

}  // namespace stablefs
