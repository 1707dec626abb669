// SPDX-License-Identifier: GPL-2.0-or-later
// Mounting, unmounting, and what all calls share.
#include "fs/file_system.h"

#include <utility>

#include "base/assert.h"
#include "format/dirent.h"
#include "fs/file_system_impl.h"

namespace stablefs {

Result<std::unique_ptr<FileSystem>> FileSystem::open(BlockDevice& device,
                                                     const FileSystemOptions& options) {
  FS_ASSERT(options.clock != nullptr && options.logger != nullptr);
  StoreOptions store_options;
  store_options.clock = options.clock;
  store_options.logger = options.logger;
  store_options.read_only = options.read_only;
  store_options.commit_interval_ns = options.commit_interval_ns;
  store_options.new_epoch = options.new_epoch;
  FileSystemParts parts;
  parts.device = &device;
  parts.store = FS_TRY(Store::open(device, store_options));

  DataOptions data_options;
  data_options.clock = options.clock;
  data_options.logger = options.logger;
  data_options.writeback_delay_ns = options.writeback_delay_ns;
  data_options.dirty_limit_bytes = options.dirty_limit_bytes;
  data_options.keep_clean = options.cache == CacheMode::daemon;
  data_options.clean_limit_bytes = options.clean_limit_bytes;
  parts.data = DataContext::create(*parts.store, device, data_options);

  std::array<uint8_t, 16> seed;
  const DiskSuperblock& superblock = parts.store->superblock();
  std::copy(std::begin(superblock.hash_seed), std::end(superblock.hash_seed), seed.begin());
  parts.name_hash = [seed](std::string_view name) { return dirent_hash(seed.data(), name); };

  auto file_system = std::make_unique<FileSystemImpl>(std::move(parts), options);
  FS_TRY(file_system->start());
  return std::unique_ptr<FileSystem>(std::move(file_system));
}

FileSystemImpl::FileSystemImpl(FileSystemParts parts, const FileSystemOptions& options)
    : options_(options),
      device_(parts.device),
      store_(std::move(parts.store)),
      data_(std::move(parts.data)),
      inodes_(*store_, *data_),
      directories_(*store_, std::move(parts.name_hash)),
      orphans_(*store_, inodes_, *options.logger),
      flusher_(*store_, inodes_, *options.clock, options.commit_interval_ns) {}

FileSystemImpl::~FileSystemImpl() {
  if (!ended_) stop();
  // Dirty pages that a stop left behind go before the inodes they belong to.
  if (!closed_) data_->stop();
  handles_.clear();
}

Status FileSystemImpl::start() {
  root_ = FS_TRY(inodes_.get(kRootIno));
  if (!root_->is_directory()) return Error(ErrorCode::item_invalid, "the root is no directory");
  if (options_.read_only) return {};
  FS_TRY(orphans_.recover());
  orphans_.start();
  flusher_.start();
  return {};
}

Status FileSystemImpl::close() {
  if (ended_.exchange(true)) return ErrorCode::shut_down;
  flusher_.stop();
  // The kernel may never say that a file is closed or forgotten any more; unlinked ones go now.
  handles_.clear();
  for (InodeRef& unused : inodes_.forget_all()) orphans_.reclaim(std::move(unused));
  orphans_.drain();
  orphans_.stop();
  Status closed;
  if (!options_.read_only) closed = sync_all();
  data_->stop();
  closed_ = true;
  stopped_ = true;
  const Status store_closed = store_->close();
  return closed.ok() ? store_closed : closed;
}

void FileSystemImpl::stop() {
  if (ended_.exchange(true)) return;
  stopped_ = true;
  store_->stop(ErrorCode::shut_down);
  data_->abandon();
  orphans_.stop();
  flusher_.stop();
}

Status FileSystemImpl::check_running() const {
  if (stopped_) return ErrorCode::shut_down;
  return {};
}

Status FileSystemImpl::check_changeable() const {
  if (stopped_) return ErrorCode::shut_down;
  if (options_.read_only) return ErrorCode::read_only;
  return {};
}

Result<InodeRef> FileSystemImpl::directory(Ino ino) {
  InodeRef inode = FS_TRY(inodes_.get(ino));
  if (!inode->is_directory()) return ErrorCode::not_a_directory;
  return inode;
}

// An entry that leads nowhere is damage, not a stale number.
Result<InodeRef> FileSystemImpl::child(const Dirent& dirent) {
  auto inode = inodes_.get(dirent.ino);
  if (!inode.ok() && inode.error().code() == ErrorCode::stale_inode) {
    return Error(ErrorCode::item_invalid, "the entry '" + dirent.name + "' has no inode");
  }
  return inode;
}

Result<ContentsUse> FileSystemImpl::use_contents(Ino ino) {
  return ContentsUse::begin(inodes_, orphans_, FS_TRY(inodes_.get(ino)));
}

Result<ContentsUse> FileSystemImpl::use_child(const Dirent& dirent) {
  return ContentsUse::begin(inodes_, orphans_, FS_TRY(child(dirent)));
}

Status FileSystemImpl::sync_all() {
  FS_TRY(check_running());
  if (options_.read_only) return {};
  // Data first: finishing it moves sizes and times that the items then carry along.
  const Status data_written = data_->sync_all();
  const Status items_committed = flusher_.flush();
  FS_TRY(store_->sync(store_->last_sequence()));
  FS_TRY(items_committed);
  return data_written;
}

}  // namespace stablefs
