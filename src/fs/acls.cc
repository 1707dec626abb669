// SPDX-License-Identifier: GPL-2.0-or-later
// POSIX access control lists: extended attributes that are tied to the mode, and that new inodes
// inherit. Whether a list lets somebody in is the kernel's business (FUSE_POSIX_ACL).
#include <sys/stat.h>

#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {
namespace {

constexpr uint32_t kPermissionBits = 0777;

}  // namespace

Result<std::optional<Acl>> FileSystemImpl::find_acl(Inode& inode, std::string_view name) {
  const auto found = FS_TRY(find_xattr(inode, name));
  if (!found) return std::optional<Acl>();
  return std::optional(FS_TRY(parse_acl(found->value)));
}

Status FileSystemImpl::put_acl(ItemUpdate& update, Inode& inode, std::string_view name,
                               std::span<const std::byte> value, const XattrChange& change) {
  if (inode.is_symlink()) return ErrorCode::not_supported;
  if (value.size() > kMaxAclBytes) return ErrorCode::attribute_too_large;
  const Acl acl = FS_TRY(parse_acl(value));
  if (name == kDefaultAclName) {
    if (!inode.is_directory()) return ErrorCode::acl_not_a_directory;
    return put_xattr(update, inode, name, acl_value(acl), change.mode);
  }
  uint32_t& mode = update.edit(inode).mode;
  mode = (mode & ~kPermissionBits) | permissions_of_acl(acl);
  if (change.clear_sgid) mode &= ~uint32_t{S_ISGID};
  if (!is_minimal_acl(acl)) return put_xattr(update, inode, name, acl_value(acl), change.mode);
  const Status erased = erase_xattr(update, inode, name);
  const bool missing = !erased.ok() && erased.error().code() == ErrorCode::no_attribute;
  return missing ? Status() : erased;
}

Status FileSystemImpl::follow_mode(ItemUpdate& update, Inode& inode, uint32_t mode) {
  auto acl = FS_TRY(find_acl(inode, kAccessAclName));
  if (!acl) return {};
  set_acl_permissions(*acl, mode);
  return put_xattr(update, inode, kAccessAclName, acl_value(*acl), XattrMode::replace);
}

Status FileSystemImpl::inherit(ItemUpdate& update, Inode& parent, Inode& created, uint32_t umask) {
  InodeAttributes& attributes = update.edit(created);
  attributes.flags = parent.flags & kInheritedInodeFlags;
  created.flags = attributes.flags;
  if (created.is_symlink()) return {};
  const auto inherited = FS_TRY(find_acl(parent, kDefaultAclName));
  if (!inherited) {
    attributes.mode &= ~(umask & kPermissionBits);
    return {};
  }
  Acl acl = *inherited;
  attributes.mode = restrict_acl(acl, attributes.mode);
  std::vector<Xattrs::Named> lists;
  if (!is_minimal_acl(acl)) lists.emplace_back(kAccessAclName, acl_value(acl));
  if (created.is_directory()) lists.emplace_back(kDefaultAclName, acl_value(*inherited));
  if (lists.empty()) return {};
  xattrs_.put_first(update.transaction(), created.ino(), lists);
  created.xattrs = Known::yes;
  return {};
}

}  // namespace stablefs
