// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes of an inode: each change is one transaction with the inode's change time.
// Access control lists among them are in acls.cc.
#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {
namespace {

// As Linux: a known namespace without a name behind it is a mistake, an unknown one is not there.
Status check_xattr_name(std::string_view name) {
  if (name.size() > kMaxXattrNameBytes) return ErrorCode::attribute_range;
  if (name.find('\0') != name.npos) return ErrorCode::invalid_argument;
  if (namespace_of_xattr(name)) return {};
  const bool bare = name == "user." || name == "trusted." || name == "security.";
  return bare ? ErrorCode::invalid_argument : ErrorCode::not_supported;
}

// Of a symbolic link or a device anybody could set what is his only.
bool may_have(const Inode& inode, std::string_view name) {
  if (namespace_of_xattr(name) != XattrNamespace::user) return true;
  return inode.is_regular() || inode.is_directory();
}

bool is_acl(std::string_view name) {
  return namespace_of_xattr(name) == XattrNamespace::acl;
}

}  // namespace

Result<bool> FileSystemImpl::has_xattrs(Inode& inode) {
  if (inode.xattrs == Known::unknown) {
    inode.xattrs = FS_TRY(xattrs_.any(inode.ino())) ? Known::yes : Known::no;
    if (inode.xattrs == Known::no) inode.capability = Known::no;
  }
  return inode.xattrs == Known::yes;
}

Result<std::optional<Xattrs::Found>> FileSystemImpl::find_xattr(Inode& inode,
                                                                std::string_view name) {
  if (!FS_TRY(has_xattrs(inode))) return std::optional<Xattrs::Found>();
  return xattrs_.find(inode.ino(), name);
}

// Before the commit: should that fail, it is looked for once too often.
void FileSystemImpl::note_xattrs(Inode& inode, std::string_view put_name) {
  inode.xattrs = Known::yes;
  if (put_name == kCapabilityName) inode.capability = Known::yes;
}

Status FileSystemImpl::put_xattr(ItemUpdate& update, Inode& inode, std::string_view name,
                                 std::span<const std::byte> value, XattrMode mode) {
  const Xattrs::Place place = FS_TRY(xattrs_.locate(inode.ino(), name));
  if (place.found && mode == XattrMode::create) return ErrorCode::exists;
  if (!place.found && mode == XattrMode::replace) return ErrorCode::no_attribute;
  if (!place.found && !place.free_first) return ErrorCode::attribute_hash_full;
  Xattrs::put(update.transaction(), inode.ino(), place, name, value);
  note_xattrs(inode, name);
  return {};
}

Status FileSystemImpl::erase_xattr(ItemUpdate& update, Inode& inode, std::string_view name) {
  const auto found = FS_TRY(find_xattr(inode, name));
  if (!found) return ErrorCode::no_attribute;
  Xattrs::erase(update.transaction(), inode.ino(), *found);
  inode.xattrs = Known::unknown;
  return {};
}

bool FileSystemImpl::erase_few_xattrs(ItemUpdate& update, Inode& inode) {
  const auto some = has_xattrs(inode);
  if (some.ok() && !*some) return true;
  // What cannot be read now is left to the orphan's removal.
  const auto erased =
      Xattrs::erase_all(*store_, update.transaction(), inode.ino(), kXattrItemsAtOnce);
  return erased.ok() && *erased;
}

Result<std::vector<std::byte>> FileSystemImpl::get_xattr(Ino ino, std::string_view name) {
  FS_TRY(check_running());
  FS_TRY(check_xattr_name(name));
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  if (inode->xattrs == Known::no) return ErrorCode::no_attribute;
  MutexLock lock(inode->state.mutex);
  auto found = FS_TRY(find_xattr(*inode, name));
  if (!found) return ErrorCode::no_attribute;
  return std::move(found->value);
}

Status FileSystemImpl::set_xattr(Ino ino, std::string_view name, std::span<const std::byte> value,
                                 const XattrChange& change) {
  FS_TRY(check_changeable());
  FS_TRY(check_xattr_name(name));
  if (value.size() > kMaxXattrValueBytes) return ErrorCode::attribute_too_large;
  const ContentsUse inode = FS_TRY(use_contents(ino));
  if (!may_have(*inode, name)) return ErrorCode::not_permitted;
  ItemUpdate update(*store_, {inode.get()});
  FS_TRY(check_not_fixed(*inode));
  update.edit(*inode).change_time = now();
  FS_TRY(is_acl(name) ? put_acl(update, *inode, name, value, change)
                      : put_xattr(update, *inode, name, value, change.mode));
  return update.commit(true);
}

Status FileSystemImpl::remove_xattr(Ino ino, std::string_view name) {
  FS_TRY(check_changeable());
  FS_TRY(check_xattr_name(name));
  const ContentsUse inode = FS_TRY(use_contents(ino));
  if (!may_have(*inode, name)) return ErrorCode::not_permitted;
  ItemUpdate update(*store_, {inode.get()});
  FS_TRY(check_not_fixed(*inode));
  const Status erased = erase_xattr(update, *inode, name);
  const bool missing = !erased.ok() && erased.error().code() == ErrorCode::no_attribute;
  // To be without an access control list is nothing special.
  if (missing && is_acl(name)) return {};
  FS_TRY(erased);
  update.edit(*inode).change_time = now();
  return update.commit(false);
}

Result<std::vector<std::string>> FileSystemImpl::list_xattrs(Ino ino) {
  FS_TRY(check_running());
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  if (inode->xattrs == Known::no) return std::vector<std::string>();
  MutexLock lock(inode->state.mutex);
  if (!FS_TRY(has_xattrs(*inode))) return std::vector<std::string>();
  return xattrs_.names(ino);
}

// The kernel leaves it to us (FUSE_HANDLE_KILLPRIV_V2), for every write.
Status FileSystemImpl::drop_capability(Inode& inode) {
  if (inode.capability == Known::no) return {};
  ItemUpdate update(*store_, {&inode});
  FS_TRY(drop_capability(update, inode));
  if (update.transaction().empty()) return {};
  update.edit(inode).change_time = now();
  return update.commit(false);
}

Status FileSystemImpl::drop_capability(ItemUpdate& update, Inode& inode) {
  if (inode.capability == Known::no) return {};
  const auto found = FS_TRY(find_xattr(inode, kCapabilityName));
  if (found) Xattrs::erase(update.transaction(), inode.ino(), *found);
  inode.capability = found ? Known::unknown : Known::no;
  if (found) inode.xattrs = Known::unknown;
  return {};
}

}  // namespace stablefs
