// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/stat.h>

#include <algorithm>

#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {
namespace {

constexpr uint32_t kPermissionBits = 07777;
constexpr int64_t kDaySeconds = 24 * 3600;

bool valid(const std::optional<Timestamp>& time) {
  return !time || time->nanoseconds < kNsPerSecond;
}

Status check_change(const AttributeChange& change) {
  const bool times_valid =
      valid(change.access_time) && valid(change.modify_time) && valid(change.change_time);
  if (!times_valid) return ErrorCode::invalid_argument;
  if (change.size_bytes && *change.size_bytes > kMaxFileBytes) return ErrorCode::file_too_large;
  return {};
}

bool changes_item(const AttributeChange& change) {
  return change.mode || change.uid || change.gid || change.access_time || change.modify_time ||
         change.change_time || change.access_time_now || change.modify_time_now ||
         change.set_ids != SetIds::keep;
}

// Of directories the bit says what is inherited.
uint32_t after(SetIds set_ids, uint32_t mode) {
  if (set_ids == SetIds::keep || (mode & S_IFMT) == S_IFDIR) return mode;
  const bool group_too = set_ids == SetIds::clear_all || (mode & S_IXGRP) != 0;
  return mode & ~(S_ISUID | (group_too ? S_ISGID : 0u));
}

void apply(const AttributeChange& change, Timestamp now, InodeAttributes& attributes) {
  attributes.mode = after(change.set_ids, attributes.mode);
  if (change.mode) {
    attributes.mode = (attributes.mode & S_IFMT) | (*change.mode & kPermissionBits);
  }
  if (change.uid) attributes.uid = *change.uid;
  if (change.gid) attributes.gid = *change.gid;
  if (change.access_time) attributes.access_time = *change.access_time;
  if (change.modify_time) attributes.modify_time = *change.modify_time;
  if (change.access_time_now) attributes.access_time = now;
  if (change.modify_time_now) attributes.modify_time = now;
  attributes.change_time = change.change_time.value_or(now);
}

// Times set by users may be anything, so nothing is subtracted from them.
bool a_day_passed(Timestamp past, Timestamp now) {
  return past.seconds <= now.seconds - kDaySeconds;
}

}  // namespace

bool is_times_of_writeback(const AttributeChange& change) {
  const bool times_only = !change.mode && !change.uid && !change.gid && !change.size_bytes &&
                          !change.access_time && !change.access_time_now &&
                          !change.modify_time_now && change.set_ids == SetIds::keep;
  return times_only && change.modify_time && change.change_time;
}

const char* to_string(AtimePolicy policy) {
  switch (policy) {
    case AtimePolicy::relatime:
      return "relatime";
    case AtimePolicy::noatime:
      return "noatime";
    case AtimePolicy::strictatime:
      return "strictatime";
  }
  return "";
}

std::optional<AtimePolicy> parse_atime_policy(std::string_view word) {
  for (const auto policy :
       {AtimePolicy::relatime, AtimePolicy::noatime, AtimePolicy::strictatime}) {
    if (word == to_string(policy)) return policy;
  }
  return std::nullopt;
}

Attributes FileSystemImpl::attributes_of(Inode& inode) {
  const uint64_t promised = inode.data() ? inode.data()->promised_blocks() : 0;
  InodeAttributes from;
  {
    MutexLock lock(inode.state.mutex);
    from = inode.state.attributes;
  }
  Attributes attributes;
  attributes.ino = inode.ino();
  attributes.generation = from.generation;
  attributes.mode = from.mode;
  attributes.link_count = from.link_count;
  attributes.uid = from.uid;
  attributes.gid = from.gid;
  attributes.device_major = from.device >> 20;
  attributes.device_minor = from.device & 0xF'FFFF;
  attributes.size_bytes = from.size_bytes;
  attributes.block_count = from.block_count + promised;
  attributes.access_time = from.access_time;
  attributes.modify_time = from.modify_time;
  attributes.change_time = from.change_time;
  attributes.birth_time = from.birth_time;
  attributes.flags = from.flags;
  return attributes;
}

Result<Attributes> FileSystemImpl::get_attributes(Ino ino) {
  FS_TRY(check_running());
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  return attributes_of(*inode);
}

Result<Attributes> FileSystemImpl::set_attributes(Ino ino, const AttributeChange& change) {
  FS_TRY(check_changeable());
  FS_TRY(check_change(change));
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  if (change.needs_writer && inode->writers == 0) return ErrorCode::not_permitted;
  FS_TRY(check_attributes_changeable(*inode, change));
  if (change.size_bytes) FS_TRY(truncate(*inode, *change.size_bytes));
  if (changes_item(change)) FS_TRY(change_attributes(*inode, change));
  return attributes_of(*inode);
}

Status FileSystemImpl::truncate(Inode& inode, uint64_t size_bytes) {
  if (inode.is_directory()) return ErrorCode::is_a_directory;
  if (!inode.is_regular()) return ErrorCode::invalid_argument;
  // Without an open file nothing else keeps the contents from being removed meanwhile.
  const ContentsUse use = FS_TRY(use_contents(inode.ino()));
  FS_TRY(drop_capability(inode));
  inode.data_used = true;
  SharedLock no_link_from_nothing(inode.names);
  const Status truncated = inodes_.data_of(inode).truncate(size_bytes, now());
  flusher_.mark(inode);
  return truncated;
}

Status FileSystemImpl::change_attributes(Inode& inode, const AttributeChange& change) {
  ItemUpdate update(*store_, {&inode});
  InodeAttributes& attributes = update.edit(inode);
  apply(change, now(), attributes);
  if (!is_times_of_writeback(change)) {
    if (change.mode) FS_TRY(follow_mode(update, inode, *change.mode));
    if (change.uid || change.gid) FS_TRY(drop_capability(update, inode));
    return update.commit(false);
  }
  // The kernel does not know that the flags were changed, and may have had these times before.
  attributes.change_time = std::max(attributes.change_time, inode.flags_change_time);
  update.keep_in_memory(inode);
  flusher_.mark(inode);
  return {};
}

Status FileSystemImpl::apply_set_ids(Inode& inode, SetIds set_ids) {
  if (set_ids == SetIds::keep) return {};
  ItemUpdate update(*store_, {&inode});
  const uint32_t mode = after(set_ids, update.get(inode).mode);
  if (mode == update.get(inode).mode) return {};
  InodeAttributes& attributes = update.edit(inode);
  attributes.mode = mode;
  attributes.change_time = now();
  return update.commit(false);
}

void FileSystemImpl::set_atime_policy(AtimePolicy policy, bool directory_atime) {
  atime_ = policy;
  directory_atime_ = directory_atime;
}

bool FileSystemImpl::note_access(Inode& inode) {
  const AtimePolicy policy = atime_;
  if (policy == AtimePolicy::noatime || !check_changeable().ok()) return false;
  if (!directory_atime_ && inode.is_directory()) return false;
  if ((inode.flags & kInodeNoAccessTime) != 0) return false;
  const Timestamp time = now();
  {
    MutexLock lock(inode.state.mutex);
    InodeAttributes& attributes = inode.state.attributes;
    const bool newer_than_change = attributes.access_time > attributes.modify_time &&
                                   attributes.access_time > attributes.change_time;
    const bool recent = newer_than_change && !a_day_passed(attributes.access_time, time);
    if (policy == AtimePolicy::relatime && recent) return false;
    if (inode.erased || attributes.access_time == time) return false;
    attributes.access_time = time;
    inode.state.item_dirty = true;
  }
  flusher_.mark(inode);
  return true;
}

}  // namespace stablefs
