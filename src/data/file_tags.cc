// SPDX-License-Identifier: GPL-2.0-or-later
// The tuples of a file as its users see them: reading them out, and the application tag.
#include "data/file_impl.h"

namespace stablefs {

// What is on its way to the device carries the old tag, so it is waited for; what is dirty gets the
// new one when it is submitted.
Status FileImpl::set_app_tag(uint16_t app_tag, Timestamp now) {
  if (app_tag == kEscapeAppTag) return ErrorCode::invalid_argument;
  FS_TRY(context_.health().check(Activity::change));
  if (context_.closed()) return ErrorCode::shut_down;
  RangeTicket ticket(ranges_, RangeClass::truncate, 0, kNoLimit);
  Status status = wait_ordered(0, kNoLimit, {.first = 0});
  if (status.ok()) status = put_app_tag(app_tag, now);
  release(ticket);
  return status;
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
