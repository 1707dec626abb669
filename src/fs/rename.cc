// SPDX-License-Identifier: GPL-2.0-or-later
// Rename, in all its modes. A file that takes another one's name first writes back what it has
// dirty: after a crash the name must lead to one whole file or the other.
#include <utility>

#include "base/assert.h"
#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"
#include "fs/namespace.h"

namespace stablefs {
namespace {

// More ancestors than a path can have: the `parent` fields run in a circle.
constexpr uint32_t kMaxDepth = 1u << 24;

}  // namespace

struct FileSystemImpl::Renaming {
  Inode& parent;
  Inode& new_parent;
  RenameMode mode;
  Dirent from;
  Directories::Place to;
  std::string new_name;
  ContentsUse source;  // these end after the locks
  ContentsUse target;  // nothing: the name is free
  InodeRef whiteout;   // takes the old name; nothing: none does

  bool moves() const { return &parent != &new_parent; }
};

Status FileSystemImpl::rename(Ino parent_ino, std::string_view name, Ino new_parent_ino,
                              std::string_view new_name, RenameMode mode, const NewFile* whiteout) {
  FS_TRY(check_changeable());
  if (whiteout != nullptr && mode == RenameMode::exchange) return ErrorCode::invalid_argument;
  if (is_dot_or_dot_dot(name) || is_dot_or_dot_dot(new_name)) return ErrorCode::name_busy;
  FS_TRY(check_name(name));
  FS_TRY(check_name(new_name));
  const InodeRef parent = FS_TRY(directory(parent_ino));
  const InodeRef new_parent = FS_TRY(directory(new_parent_ino));
  Renaming renaming{*parent, *new_parent, mode, {}, {}, std::string(new_name), {}, {}, {}};
  // Once without the locks, so that the long part keeps nobody out of the directories.
  {
    SharedLock names(parent->names);
    FS_TRY(find_source(renaming, name));
  }
  {
    SharedLock names(new_parent->names);
    FS_TRY(find_target(renaming));
  }
  FS_TRY(write_back_before_replacing(renaming));
  renaming.source.end();
  renaming.target.end();
  if (whiteout != nullptr) {
    renaming.whiteout = new_inode({S_IFCHR, whiteout->uid, whiteout->gid, 0, 0}, now());
  }
  if (!renaming.moves()) {
    NamesLock names(*parent, *parent);
    return rename_locked(renaming, name);
  }
  MutexLock moving(rename_mutex_);
  NamesLock names(*parent, *new_parent);
  return rename_locked(renaming, name);
}

Status FileSystemImpl::find_source(Renaming& renaming, std::string_view name) {
  auto from = FS_TRY(directories_.find(renaming.parent.ino(), name));
  if (!from) return ErrorCode::not_found;
  renaming.from = std::move(*from);
  renaming.source = FS_TRY(use_child(renaming.from));
  return {};
}

Status FileSystemImpl::find_target(Renaming& renaming) {
  renaming.to = FS_TRY(directories_.locate(renaming.new_parent.ino(), renaming.new_name));
  if (renaming.to.found) renaming.target = FS_TRY(use_child(*renaming.to.found));
  return {};
}

// Harmless under the locks of the names too: writing back takes nothing above range locks.
Status FileSystemImpl::write_back_before_replacing(Renaming& renaming) {
  if (renaming.mode != RenameMode::replace || !renaming.target) return {};
  Inode& source = *renaming.source;
  if (!source.data_used) return {};
  return inodes_.data_of(source).write_back();
}

Status FileSystemImpl::rename_locked(Renaming& renaming, std::string_view name) {
  FS_TRY(find_source(renaming, name));
  FS_TRY(find_target(renaming));
  FS_TRY(check_rename(renaming));
  if (renaming.target && renaming.target.get() == renaming.source.get()) return {};
  FS_TRY(write_back_before_replacing(renaming));
  return renaming.mode == RenameMode::exchange ? commit_exchange(renaming)
                                               : commit_replace(renaming);
}

Status FileSystemImpl::check_rename(Renaming& renaming) {
  const bool exchange = renaming.mode == RenameMode::exchange;
  const bool has_target = static_cast<bool>(renaming.target);
  if (exchange && !has_target) return ErrorCode::not_found;
  if (renaming.mode == RenameMode::no_replace && has_target) return ErrorCode::exists;
  if (renaming.moves() && renaming.source->is_directory()) {
    FS_TRY(check_not_below(*renaming.source, renaming.new_parent.ino()));
  }
  FS_TRY(check_rename_flags(renaming));
  if (!has_target) return renaming.to.free_cookie ? Status() : ErrorCode::directory_hash_full;
  if (exchange) {
    if (!renaming.moves() || !renaming.target->is_directory()) return {};
    return check_not_below(*renaming.target, renaming.parent.ino());
  }
  if (renaming.source->is_directory() && !renaming.target->is_directory()) {
    return ErrorCode::not_a_directory;
  }
  if (!renaming.source->is_directory() && renaming.target->is_directory()) {
    return ErrorCode::is_a_directory;
  }
  return {};
}

Status FileSystemImpl::check_rename_flags(Renaming& renaming) {
  FS_TRY(check_entry_may_go(renaming.parent, *renaming.source));
  if (!renaming.target) return check_entry_may_come(renaming.new_parent);
  return check_entry_may_go(renaming.new_parent, *renaming.target);
}

// Only renames change who is above whom, and they wait for the rename mutex.
Status FileSystemImpl::check_not_below(Inode& moved, Ino directory) {
  Ino ino = directory;
  for (uint32_t depth = 0; depth < kMaxDepth; ++depth) {
    if (ino == moved.ino()) return ErrorCode::would_loop;
    if (ino == kRootIno) return {};
    const InodeRef above = FS_TRY(inodes_.get_any(ino));
    MutexLock lock(above->state.mutex);
    if (above->state.attributes.link_count == 0) return ErrorCode::not_found;
    ino = above->state.attributes.parent;
  }
  return Error(ErrorCode::item_invalid, "directories contain each other");
}

Status FileSystemImpl::commit_replace(Renaming& renaming) {
  const Timestamp time = now();
  Inode& source = *renaming.source;
  Inode* target = renaming.target.get();
  Inode* whiteout = renaming.whiteout.get();
  ItemUpdate update(*store_, {&renaming.parent, &renaming.new_parent, &source, target, whiteout});
  const bool parents_alive = update.get(renaming.parent).link_count != 0 &&
                             update.get(renaming.new_parent).link_count != 0;
  if (!parents_alive) return ErrorCode::not_found;
  const bool replaces_directory = target != nullptr && target->is_directory();
  if (replaces_directory && !FS_TRY(directories_.empty(target->ino()))) {
    return ErrorCode::directory_not_empty;
  }
  InodeAttributes& from = update.edit(renaming.parent);
  InodeAttributes& to = update.edit(renaming.new_parent);
  touch_directory(from, time);
  touch_directory(to, time);
  if (whiteout == nullptr) count_entries(from, -1);
  if (target == nullptr) count_entries(to, 1);
  if (replaces_directory) remove_subdirectory(to);
  InodeAttributes& moved = update.edit(source);
  moved.change_time = time;
  if (source.is_directory() && renaming.moves()) {
    remove_subdirectory(from);
    FS_TRY(add_subdirectory(to));
    moved.parent = renaming.new_parent.ino();
  }
  const uint64_t cookie = target != nullptr ? renaming.to.found->cookie : *renaming.to.free_cookie;
  leave_old_name(renaming, update);
  Directories::put(update.transaction(), renaming.new_parent.ino(),
                   {cookie, source.ino(), dirent_type(source.type), renaming.new_name});
  const Fate fate = target != nullptr ? drop_link(update, *target, time) : Fate::stays;
  const Status committed = update.commit(target == nullptr || whiteout != nullptr);
  if (target != nullptr) settle(*target, fate, committed.ok());
  if (whiteout != nullptr && committed.ok()) inodes_.set_contents(*whiteout, Contents::linked);
  return committed;
}

void FileSystemImpl::leave_old_name(Renaming& renaming, ItemUpdate& update) {
  const Ino parent = renaming.parent.ino();
  if (!renaming.whiteout) {
    Directories::erase(update.transaction(), parent, renaming.from.cookie);
    return;
  }
  Inode& whiteout = *renaming.whiteout;
  inherit_group(update.get(renaming.parent), update.put_new(whiteout));
  Directories::put(
      update.transaction(), parent,
      {renaming.from.cookie, whiteout.ino(), dirent_type(whiteout.type), renaming.from.name});
}

Status FileSystemImpl::commit_exchange(Renaming& renaming) {
  const Timestamp time = now();
  Inode& source = *renaming.source;
  Inode& target = *renaming.target;
  ItemUpdate update(*store_, {&renaming.parent, &renaming.new_parent, &source, &target});
  InodeAttributes& from = update.edit(renaming.parent);
  InodeAttributes& to = update.edit(renaming.new_parent);
  if (from.link_count == 0 || to.link_count == 0) return ErrorCode::not_found;
  touch_directory(from, time);
  touch_directory(to, time);
  update.edit(source).change_time = time;
  update.edit(target).change_time = time;
  if (renaming.moves() && source.is_directory())
    update.edit(source).parent = renaming.new_parent.ino();
  if (renaming.moves() && target.is_directory()) update.edit(target).parent = renaming.parent.ino();
  if (renaming.moves() && source.is_directory() != target.is_directory()) {
    InodeAttributes& loses = source.is_directory() ? from : to;
    InodeAttributes& gains = source.is_directory() ? to : from;
    FS_TRY(add_subdirectory(gains));
    remove_subdirectory(loses);
  }
  Directories::put(
      update.transaction(), renaming.parent.ino(),
      {renaming.from.cookie, target.ino(), dirent_type(target.type), renaming.from.name});
  Directories::put(
      update.transaction(), renaming.new_parent.ino(),
      {renaming.to.found->cookie, source.ino(), dirent_type(source.type), renaming.new_name});
  return update.commit(false);
}

}  // namespace stablefs
