// SPDX-License-Identifier: GPL-2.0-or-later
// Mounting, unmounting, and what all calls share.
#include "fs/file_system.h"

#include <utility>

#include "base/assert.h"
#include "format/dirent.h"
#include "fs/file_system_impl.h"

namespace stablefs {
namespace {

std::unique_ptr<Health> make_health(const FileSystemOptions& options) {
  return std::make_unique<Health>(HealthOptions{.policy = options.errors,
                                                .clock = options.clock,
                                                .logger = options.logger,
                                                .on_abort = options.on_abort});
}

// The way of a change to the device has two stretches: until it is in the journal's buffer (data:
// until it was written back), and until that is committed. Together they take the interval.
uint64_t writeback_delay_ns(const FileSystemOptions& options) {
  return std::min(options.writeback_delay_ns, options.commit_interval_ns / 2);
}

}  // namespace

Result<std::unique_ptr<FileSystem>> FileSystem::open(BlockDevice& device,
                                                     const FileSystemOptions& options) {
  FS_ASSERT(options.clock != nullptr && options.logger != nullptr);
  FileSystemParts parts;
  parts.health = make_health(options);
  StoreOptions store_options;
  store_options.clock = options.clock;
  store_options.logger = options.logger;
  store_options.read_only = options.read_only;
  store_options.health = parts.health.get();
  store_options.discard = options.discard;
  store_options.discard_delay_ns = options.discard_delay_ns;
  store_options.commit_interval_ns = options.commit_interval_ns - writeback_delay_ns(options);
  store_options.new_epoch = options.new_epoch;
  parts.device = &device;
  parts.store = FS_TRY(Store::open(device, store_options));

  DataOptions data_options;
  data_options.clock = options.clock;
  data_options.logger = options.logger;
  data_options.health = parts.health.get();
  data_options.read_only = options.read_only;
  data_options.writeback_delay_ns = writeback_delay_ns(options);
  data_options.dirty_limit_bytes = options.dirty_limit_bytes;
  data_options.stable = options.stable;
  data_options.shadow_limit_bytes = options.dirty_limit_bytes / 4;
  data_options.guard = options.guard;
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
      atime_(options.atime),
      directory_atime_(options.directory_atime),
      device_(parts.device),
      health_(parts.health ? std::move(parts.health) : make_health(options)),
      store_(std::move(parts.store)),
      data_(std::move(parts.data)),
      inodes_(*store_, *data_),
      directories_(*store_, parts.name_hash),
      xattrs_(*store_, parts.name_hash),
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
  if (!options_.read_only) closed = sync_everything();
  data_->stop();
  closed_ = true;
  stopped_ = true;
  const Status store_closed = store_->close();
  // Said as what began it, not as what followed from it.
  if (const auto cause = health_->cause(); cause && cause->state != HealthState::losing) {
    return cause->error;
  }
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

void FileSystemImpl::abort() {
  if (device_ != nullptr) device_->abort();
  stop();
}

Status FileSystemImpl::check_running() const {
  if (stopped_) return ErrorCode::shut_down;
  return health_->check(Activity::serve);
}

Status FileSystemImpl::check_changeable() const {
  if (stopped_) return ErrorCode::shut_down;
  if (options_.read_only) return ErrorCode::read_only;
  return health_->check(Activity::change);
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
  const Status synced = sync_everything();
  // SYNCFS comes without an open file, so there is one cursor for all that call it.
  const uint64_t losses = health_->losses();
  const bool untold = losses_told_by_syncfs_.exchange(losses) != losses;
  if (!synced.ok()) return synced;
  if (untold) return ErrorCode::writeback_failed;
  return settle_free_space();
}

Result<uint64_t> FileSystemImpl::trim(uint64_t offset_bytes, uint64_t length_bytes,
                                      uint64_t least_bytes) {
  FS_TRY(check_changeable());
  if (device_ == nullptr || !device_->supports_discard()) return ErrorCode::not_supported;
  const uint64_t blocks = store_->superblock().block_count;
  const uint64_t first = blocks_for_bytes(std::min(offset_bytes, blocks * kBlockSize));
  const uint64_t length = std::min(length_bytes / kBlockSize, blocks - std::min(blocks, first));
  // What was removed before is free by now.
  orphans_.drain();
  FS_TRY(store_->sync(store_->last_sequence()));
  const BlockRange range{Lba(first), length};
  return FS_TRY(store_->discard_free(range, blocks_for_bytes(least_bytes))) * kBlockSize;
}

// Old tree nodes come free at a checkpoint only. After a mass deletion that can be most of the
// tree, and statfs would be wrong by more than the hundredth that people may rely on after a sync.
Status FileSystemImpl::settle_free_space() {
  const uint64_t blocks = store_->gauges().node_blocks_replaced;
  if (blocks * 100 <= store_->superblock().block_count) return {};
  return store_->checkpoint();
}

Status FileSystemImpl::sync_everything() {
  // Data first: finishing it moves sizes and times that the items then carry along.
  const Status data_written = data_->sync_all();
  const Status items_committed = flusher_.flush();
  FS_TRY(store_->sync(store_->last_sequence()));
  FS_TRY(items_committed);
  return data_written;
}

}  // namespace stablefs
