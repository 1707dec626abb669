// SPDX-License-Identifier: GPL-2.0-or-later
// What users see of guards and tags: the application tag of a file, its tuples, the damage list.
#include <map>

#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {

Result<uint16_t> FileSystemImpl::app_tag(Ino ino) {
  FS_TRY(check_running());
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  if (!inode->is_regular()) return ErrorCode::not_supported;
  MutexLock lock(inode->state.mutex);
  return inode->state.attributes.app_tag;
}

Status FileSystemImpl::set_app_tag(Ino ino, uint16_t app_tag) {
  FS_TRY(check_changeable());
  const ContentsUse use = FS_TRY(use_contents(ino));
  if (!use->is_regular()) return ErrorCode::not_supported;
  FS_TRY(check_not_fixed(*use));
  return inodes_.data_of(*use).set_app_tag(app_tag, now());
}

Result<std::vector<Run>> FileSystemImpl::mapped_runs(Ino ino, uint64_t first_block,
                                                     uint64_t end_block) {
  FS_TRY(check_running());
  if (first_block >= end_block) return ErrorCode::invalid_argument;
  const ContentsUse use = FS_TRY(use_contents(ino));
  if (!use->is_regular()) return ErrorCode::not_supported;
  return inodes_.data_of(*use).mapped_runs(first_block, end_block);
}

Result<std::vector<DamageEntry>> FileSystemImpl::damage(Lba from, size_t limit) {
  FS_TRY(check_running());
  std::vector<DamageEntry> entries = data_->damage().list(from, limit);
  find_damage_paths(*store_, entries);
  return entries;
}

Status FileSystemImpl::clear_damage() {
  FS_TRY(check_changeable());
  std::map<Ino, std::vector<Lba>> blocks;
  for (const DamageEntry& entry : data_->damage().list(Lba(0), SIZE_MAX)) {
    blocks[entry.ino].push_back(entry.lba);
  }
  for (const auto& [ino, of_inode] : blocks) FS_TRY(clear_damage_of(ino, of_inode));
  return {};
}

Status FileSystemImpl::clear_damage_of(Ino ino, std::span<const Lba> blocks) {
  const auto inode = inodes_.get_any(ino);
  // Of an inode that does not exist nothing can be freed meanwhile.
  if (!inode.ok()) return data_->damage().clear(blocks);
  MutexLock lock((*inode)->state.mutex);
  return data_->damage().clear(blocks);
}

}  // namespace stablefs
