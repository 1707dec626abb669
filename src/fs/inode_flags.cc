// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/inode_flags.h"

#include "fs/file_system_impl.h"

namespace stablefs {

Status check_may_open(const Inode& inode, const OpenFlags& flags) {
  if (!flags.write && !flags.truncate) return {};
  FS_TRY(refuse_flags(inode, kInodeImmutable));
  return flags.append && !flags.truncate ? Status() : refuse_flags(inode, kInodeAppendOnly);
}

Status FileSystemImpl::set_flags(Ino ino, uint32_t flags) {
  FS_TRY(check_changeable());
  if ((flags & ~kKnownInodeFlags) != 0) return ErrorCode::not_supported;
  const ContentsUse inode = FS_TRY(use_contents(ino));
  if (!inode->is_regular() && !inode->is_directory()) return ErrorCode::not_supported;
  ItemUpdate update(*store_, {inode.get()});
  InodeAttributes& attributes = update.edit(*inode);
  const uint32_t changed = attributes.flags ^ flags;
  const bool stays_immutable = (attributes.flags & flags & kInodeImmutable) != 0;
  if (stays_immutable && changed != 0) return ErrorCode::not_permitted;
  attributes.flags = flags;
  attributes.change_time = inode->flags_change_time = now();
  FS_TRY(update.commit(false));
  inode->flags = flags;
  return {};
}

Status FileSystemImpl::check_attributes_changeable(Inode& inode, const AttributeChange& change) {
  const uint32_t flags = inode.flags & kInodeFixed;
  if (flags == 0 || change.of_kernel_cache) return {};
  if (is_times_of_writeback(change)) {
    if ((flags & kInodeImmutable) == 0) return {};
    // Times from before it became immutable, which the kernel still had, are let in; a call that
    // sets times now comes with a later change time.
    MutexLock lock(inode.state.mutex);
    const bool older = *change.change_time <= inode.state.attributes.change_time;
    return older ? Status() : ErrorCode::not_permitted;
  }
  // Touching is writing, and so allowed where appending is. A kernel that keeps times gives the new
  // one itself.
  const bool modified_now = !change.modify_time || change.modify_time == change.change_time;
  const bool only_now = !change.mode && !change.uid && !change.gid && !change.size_bytes &&
                        !change.access_time && modified_now;
  return refuse_flags(inode, only_now ? kInodeImmutable : kInodeFixed);
}

Status FileSystemImpl::may_cache_write(Ino ino, HandleId handle) {
  const FileUse file = FS_TRY(use_file(ino, handle));
  if (!file.open || !file.open->flags.write) return {};
  return refuse_flags(file.inode(), kInodeImmutable);
}

}  // namespace stablefs
