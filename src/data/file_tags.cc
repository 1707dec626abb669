// SPDX-License-Identifier: GPL-2.0-or-later
// The tuples of a file as its users see them: reading them out, and the application tag.
#include "data/file_impl.h"

namespace stablefs {
namespace {

// At once, when blocks are given up that are shared.
constexpr uint64_t kUnshareBlocks = 256;

}  // namespace

// What is on its way to the device carries the old tag, so it is waited for; what is dirty gets the
// new one when it is submitted.
Status FileImpl::set_app_tag(uint16_t app_tag, Timestamp now) {
  if (app_tag == kEscapeAppTag) return ErrorCode::invalid_argument;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  RangeTicket ticket(ranges_, RangeClass::truncate, 0, kNoLimit);
  Status status = wait_ordered(0, kNoLimit, {.first = 0});
  if (status.ok()) status = unshare();
  if (status.ok()) status = put_app_tag(app_tag, now);
  release(ticket);
  return status;
}

// Tuples belong to blocks, so blocks that other files have too keep theirs: this file gets blocks
// of its own instead. Under a truncate ticket over the whole file.
Status FileImpl::unshare() {
  if (!extents_.may_share()) return {};
  for (uint64_t block = 0; block != kEndOfFileBlocks;) block = FS_TRY(unshare_from(block));
  return {};
}

// Returns where to go on.
Result<uint64_t> FileImpl::unshare_from(uint64_t block) {
  uint64_t first = block, end = 0;
  {
    MutexLock attributes_lock(inode_.mutex);
    Run run = FS_TRY(extents_.run_at(block));
    if (run.kind != RunKind::written) return run.end_block();
    const uint64_t own_blocks = FS_TRY(extents_.count_freed(run));
    if (own_blocks == run.length_blocks) return run.end_block();
    first += own_blocks;
    end = std::min(run.end_block(), first + kUnshareBlocks);
  }
  const uint64_t errors = errors_.load();
  const OwnedBlocks owned{.first = 0};
  FS_TRY(rewrite(first, end, owned));
  uint64_t stamp = 0;
  {
    MutexLock lock(mutex_);
    stamp = stamp_;
  }
  submit_range(first, end, stamp, owned);
  FS_TRY(wait_committed(first, stamp, owned, end));
  if (errors_.load() != errors) return ErrorCode::writeback_failed;
  return end;
}

Status FileImpl::put_app_tag(uint16_t app_tag, Timestamp now) {
  bool first_link = true;
  for (uint64_t next_block = 0; next_block != kEndOfFileBlocks; first_link = false) {
    MutexLock attributes_lock(inode_.mutex);
    InodeAttributes attributes = inode_.attributes;
    Transaction transaction;
    if (first_link) {
      attributes.app_tag = app_tag;
      attributes.change_time = now;
      transaction.put_struct(Key(inode_.ino, ItemKind::inode, 0), to_disk(attributes));
    }
    next_block = FS_TRY(extents_.set_app_tag(transaction, next_block, app_tag, kLinkBytes));
    if (transaction.empty()) continue;
    const Sequence sequence = FS_TRY(store_.commit(transaction, false));
    inode_.last_sequence = sequence;
    if (!first_link) continue;
    inode_.attributes = attributes;
    inode_.item_dirty = false;
  }
  return {};
}

// Under the mutex no extent goes with its tuples while we look from the one to the others.
Result<std::vector<Run>> FileImpl::mapped_runs(uint64_t first_block, uint64_t end_block) {
  MutexLock attributes_lock(inode_.mutex);
  return extents_.lookup(first_block, end_block);
}

}  // namespace stablefs
