// SPDX-License-Identifier: GPL-2.0-or-later
// Names: lookup, creation, links and their removal. Rename is in rename.cc.
#include "fs/namespace.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "fs/file_system_impl.h"
#include "fs/inode_flags.h"

namespace stablefs {
namespace {

constexpr uint32_t kPermissionBits = 07777;
constexpr uint32_t kMaxDeviceMajor = (1u << 12) - 1;
constexpr uint32_t kMaxDeviceMinor = (1u << 20) - 1;

// The kernel resolves "." and "..", so this is for callers who do not.
Status check_new_name(std::string_view name) {
  if (is_dot_or_dot_dot(name)) return ErrorCode::exists;
  return check_name(name);
}

Status check_node_type(const NewFile& file) {
  const uint32_t type = file.mode & S_IFMT;
  const bool is_device = type == S_IFCHR || type == S_IFBLK;
  const bool known = is_device || type == S_IFREG || type == S_IFIFO || type == S_IFSOCK;
  if (!known) return ErrorCode::invalid_argument;
  if (!is_device) return {};
  const bool fits = file.device_major <= kMaxDeviceMajor && file.device_minor <= kMaxDeviceMinor;
  return fits ? Status() : ErrorCode::invalid_argument;
}

Status check_target(std::string_view target) {
  if (target.empty()) return ErrorCode::not_found;
  if (target.size() > kMaxSymlinkBytes) return ErrorCode::name_too_long;
  if (target.find('\0') != target.npos) return ErrorCode::invalid_argument;
  return {};
}

void put_target(Transaction& transaction, Ino ino, std::string_view target) {
  const auto bytes = std::as_bytes(std::span(target.data(), target.size()));
  for (size_t offset = 0; offset < bytes.size(); offset += kMaxValueBytes) {
    const size_t length = std::min<size_t>(kMaxValueBytes, bytes.size() - offset);
    transaction.put(Key(ino, ItemKind::inline_data, offset), bytes.subspan(offset, length));
  }
}

}  // namespace

void inherit_group(const InodeAttributes& directory, InodeAttributes& created) {
  if ((directory.mode & S_ISGID) == 0) return;
  created.gid = directory.gid;
  if ((created.mode & S_IFMT) == S_IFDIR) created.mode |= S_ISGID;
}

InodeAttributes new_attributes(const NewFile& file, Timestamp now) {
  InodeAttributes attributes;
  attributes.mode = file.mode & (S_IFMT | kPermissionBits);
  attributes.uid = file.uid;
  attributes.gid = file.gid;
  attributes.link_count = (file.mode & S_IFMT) == S_IFDIR ? 2 : 1;
  attributes.access_time = now;
  attributes.modify_time = now;
  attributes.change_time = now;
  attributes.birth_time = now;
  const uint32_t type = file.mode & S_IFMT;
  if (type == S_IFCHR || type == S_IFBLK) {
    attributes.device = file.device_major << 20 | file.device_minor;
  }
  return attributes;
}

void touch_directory(InodeAttributes& directory, Timestamp time) {
  directory.modify_time = time;
  directory.change_time = time;
}

void count_entries(InodeAttributes& directory, int64_t entries) {
  // A damaged size must not wrap around.
  uint64_t size = directory.size_bytes;
  if (entries > 0) size += static_cast<uint64_t>(entries) * kDirectoryEntryBytes;
  if (entries < 0) size -= std::min(size, static_cast<uint64_t>(-entries) * kDirectoryEntryBytes);
  directory.size_bytes = size;
  directory.disk_size_bytes = size;
}

Status add_subdirectory(InodeAttributes& directory) {
  if (directory.link_count >= kMaxLinks) return ErrorCode::too_many_links;
  ++directory.link_count;
  return {};
}

void remove_subdirectory(InodeAttributes& directory) {
  if (directory.link_count > 2) --directory.link_count;
}

Result<Attributes> FileSystemImpl::lookup(Ino parent_ino, std::string_view name) {
  FS_TRY(check_running());
  InodeRef parent = FS_TRY(inodes_.get(parent_ino));
  InodeRef found;
  if (name == ".") {
    found = parent.share();
  } else if (!parent->is_directory()) {
    return ErrorCode::not_a_directory;
  } else if (name == "..") {
    Ino up;
    {
      MutexLock lock(parent->state.mutex);
      up = parent->state.attributes.parent;
    }
    found = FS_TRY(inodes_.get(parent_ino == kRootIno ? kRootIno : up));
  } else {
    FS_TRY(check_name(name));
    SharedLock names(parent->names);
    found = FS_TRY(find_child(*parent, name));
  }
  const Attributes attributes = attributes_of(*found);
  inodes_.add_lookup(*found);
  return attributes;
}

Result<InodeRef> FileSystemImpl::find_child(Inode& parent, std::string_view name) {
  const auto dirent = FS_TRY(directories_.find(parent.ino(), name));
  if (!dirent) return ErrorCode::not_found;
  return child(*dirent);
}

void FileSystemImpl::forget(Ino ino, uint64_t lookups) {
  InodeRef unused = inodes_.forget(ino, lookups);
  if (unused && !stopped_) orphans_.reclaim(std::move(unused));
}

Result<InodeRef> FileSystemImpl::create_inode(Ino parent, std::string_view name,
                                              const NewFile& file, std::string_view target) {
  return with_freed_space([&] { return try_create_inode(parent, name, file, target); });
}

Result<InodeRef> FileSystemImpl::try_create_inode(Ino parent_ino, std::string_view name,
                                                  const NewFile& file, std::string_view target) {
  FS_TRY(check_changeable());
  FS_TRY(check_new_name(name));
  InodeRef parent = FS_TRY(directory(parent_ino));
  InodeRef inode;
  ExclusiveLock names(parent->names);
  const Directories::Place place = FS_TRY(directories_.locate(parent_ino, name));
  if (place.found) return ErrorCode::exists;
  if (!place.free_cookie) return ErrorCode::directory_hash_full;

  const Timestamp time = now();
  inode = new_inode(file, time);
  ItemUpdate update(*store_, {parent.get(), inode.get()});
  if (update.get(*parent).link_count == 0) return ErrorCode::not_found;
  FS_TRY(check_entry_may_come(*parent));
  InodeAttributes& directory = update.edit(*parent);
  InodeAttributes& created = update.put_new(*inode);
  inherit_group(directory, created);
  FS_TRY(inherit(update, *parent, *inode, file.umask));
  touch_directory(directory, time);
  count_entries(directory, 1);
  if (inode->is_directory()) {
    FS_TRY(add_subdirectory(directory));
    created.parent = parent_ino;
  }
  if (inode->is_symlink()) {
    created.size_bytes = created.disk_size_bytes = target.size();
    put_target(update.transaction(), inode->ino(), target);
  }
  Directories::put(
      update.transaction(), parent_ino,
      {*place.free_cookie, inode->ino(), dirent_type(created.mode), std::string(name)});
  FS_TRY(update.commit(true));
  inodes_.set_contents(*inode, Contents::linked);
  inodes_.add_lookup(*inode);
  return inode;
}

// A crash that loses a file gives its number to another one, but only in a later mount.
InodeRef FileSystemImpl::new_inode(const NewFile& file, Timestamp time) {
  InodeAttributes attributes = new_attributes(file, time);
  attributes.generation = static_cast<uint32_t>(store_->superblock().mount_count);
  return inodes_.insert_new(store_->new_ino(), attributes);
}

Result<Attributes> FileSystemImpl::make_node(Ino parent, std::string_view name,
                                             const NewFile& file) {
  NewFile node = file;
  if ((node.mode & S_IFMT) == 0) node.mode |= S_IFREG;
  FS_TRY(check_node_type(node));
  const InodeRef inode = FS_TRY(create_inode(parent, name, node, {}));
  return attributes_of(*inode);
}

Result<Attributes> FileSystemImpl::make_directory(Ino parent, std::string_view name,
                                                  const NewFile& file) {
  NewFile directory = file;
  directory.mode = S_IFDIR | (file.mode & kPermissionBits);
  const InodeRef inode = FS_TRY(create_inode(parent, name, directory, {}));
  return attributes_of(*inode);
}

Result<Attributes> FileSystemImpl::make_symlink(Ino parent, std::string_view name,
                                                std::string_view target, const NewFile& file) {
  FS_TRY(check_target(target));
  NewFile symlink = file;
  symlink.mode = S_IFLNK | 0777;
  const InodeRef inode = FS_TRY(create_inode(parent, name, symlink, target));
  return attributes_of(*inode);
}

Result<std::pair<Attributes, HandleId>> FileSystemImpl::create(Ino parent, std::string_view name,
                                                               const NewFile& file,
                                                               const OpenFlags& flags) {
  NewFile regular = file;
  regular.mode = S_IFREG | (file.mode & kPermissionBits);
  return open_created(FS_TRY(create_inode(parent, name, regular, {})), flags);
}

// Somebody else may have removed the name already; then the creator gets no handle and knows of no
// inode.
Result<std::pair<Attributes, HandleId>> FileSystemImpl::open_created(InodeRef inode,
                                                                     const OpenFlags& flags) {
  const Attributes attributes = attributes_of(*inode);
  const Ino ino = inode->ino();
  auto use = ContentsUse::begin(inodes_, orphans_, std::move(inode));
  if (!use.ok()) {
    forget(ino, 1);
    return use.error();
  }
  return std::pair(attributes, handles_.add(std::make_shared<OpenFile>(std::move(use).value(),
                                                                       flags, *health_)));
}

Result<Attributes> FileSystemImpl::link(Ino ino, Ino new_parent, std::string_view new_name) {
  FS_TRY(check_changeable());
  FS_TRY(check_new_name(new_name));
  const ContentsUse inode = FS_TRY(use_contents(ino));
  if (inode->is_directory()) return ErrorCode::not_permitted;
  const InodeRef parent = FS_TRY(directory(new_parent));
  {
    // A truncation of a file without a name leaves it to the orphan item to tell a recovery what is
    // left to do: that item must not go before the truncation has ended.
    const bool nameless = inodes_.contents(*inode) == Contents::doomed;
    NamesLock names(*parent, nameless ? *inode : *parent);
    const Directories::Place place = FS_TRY(directories_.locate(new_parent, new_name));
    if (place.found) return ErrorCode::exists;
    if (!place.free_cookie) return ErrorCode::directory_hash_full;

    const Timestamp time = now();
    ItemUpdate update(*store_, {parent.get(), inode.get()});
    if (update.get(*parent).link_count == 0) return ErrorCode::not_found;
    FS_TRY(check_entry_may_come(*parent));
    FS_TRY(check_not_fixed(*inode));
    InodeAttributes& directory = update.edit(*parent);
    InodeAttributes& linked = update.edit(*inode);
    if (linked.link_count >= kMaxLinks) return ErrorCode::too_many_links;
    // An open file without a name gets one again.
    const bool revived = linked.link_count == 0;
    if (revived && !nameless) return ErrorCode::not_found;
    if (revived) Orphans::spare(update.transaction(), ino);
    ++linked.link_count;
    linked.change_time = time;
    touch_directory(directory, time);
    count_entries(directory, 1);
    Directories::put(update.transaction(), new_parent,
                     {*place.free_cookie, ino, dirent_type(inode->type), std::string(new_name)});
    FS_TRY(update.commit(true));
    if (revived) inodes_.set_contents(*inode, Contents::linked);
  }
  inodes_.add_lookup(*inode);
  return attributes_of(*inode);
}

// Whether an inode that nobody uses can go in the transaction that drops its last link. Everything
// that has file data goes through FileData, which alone knows of pages and I/O in flight.
bool has_file_data(const Inode& inode, const InodeAttributes& attributes) {
  return inode.is_regular() && (inode.data_used || attributes.block_count != 0);
}

FileSystemImpl::Fate FileSystemImpl::drop_link(ItemUpdate& update, Inode& inode, Timestamp time) {
  InodeAttributes& attributes = update.edit(inode);
  attributes.change_time = time;
  if (inode.is_directory()) {
    attributes.link_count = 0;
    if (erase_few_xattrs(update, inode)) {
      update.erase(inode);
      return Fate::erased;
    }
    Orphans::doom(update.transaction(), inode.ino());
    return Fate::doomed;
  }
  if (attributes.link_count > 1) {
    --attributes.link_count;
    return Fate::stays;
  }
  attributes.link_count = 0;
  if (inodes_.claim_contents(inode)) {
    if (!has_file_data(inode, attributes) && erase_few_xattrs(update, inode)) {
      if (inode.is_symlink()) {
        Orphans::erase_target(update.transaction(), inode.ino(), attributes.size_bytes);
      }
      update.erase(inode);
      return Fate::erased;
    }
    inodes_.set_contents(inode, Contents::linked);
  }
  Orphans::doom(update.transaction(), inode.ino());
  return Fate::doomed;
}

void FileSystemImpl::settle(Inode& inode, Fate fate, bool committed) {
  switch (fate) {
    case Fate::stays:
      return;
    case Fate::doomed:
      if (committed) inodes_.set_contents(inode, Contents::doomed);
      return;
    case Fate::erased:
      inodes_.set_contents(inode, committed ? Contents::gone : Contents::linked);
      return;
  }
}

Status FileSystemImpl::remove_entry(Ino parent_ino, std::string_view name, bool is_directory) {
  FS_TRY(check_changeable());
  FS_TRY(check_name(name));
  const InodeRef parent = FS_TRY(directory(parent_ino));
  ContentsUse victim;
  ExclusiveLock names(parent->names);
  const auto dirent = FS_TRY(directories_.find(parent_ino, name));
  if (!dirent) return ErrorCode::not_found;
  victim = FS_TRY(use_child(*dirent));
  if (is_directory && !victim->is_directory()) return ErrorCode::not_a_directory;
  if (!is_directory && victim->is_directory()) return ErrorCode::is_a_directory;

  const Timestamp time = now();
  ItemUpdate update(*store_, {parent.get(), victim.get()});
  FS_TRY(check_entry_may_go(*parent, *victim));
  if (is_directory && !FS_TRY(directories_.empty(victim->ino()))) {
    return ErrorCode::directory_not_empty;
  }
  InodeAttributes& directory = update.edit(*parent);
  touch_directory(directory, time);
  count_entries(directory, -1);
  if (is_directory) remove_subdirectory(directory);
  Directories::erase(update.transaction(), parent_ino, dirent->cookie);
  const Fate fate = drop_link(update, *victim, time);
  const Status committed = update.commit(false);
  settle(*victim, fate, committed.ok());
  return committed;
}

Status FileSystemImpl::unlink(Ino parent, std::string_view name) {
  if (is_dot_or_dot_dot(name)) return ErrorCode::is_a_directory;
  return remove_entry(parent, name, false);
}

Status FileSystemImpl::remove_directory(Ino parent, std::string_view name) {
  if (name == ".") return ErrorCode::invalid_argument;
  if (name == "..") return ErrorCode::directory_not_empty;
  return remove_entry(parent, name, true);
}

Result<std::string> FileSystemImpl::read_symlink(Ino ino) {
  FS_TRY(check_running());
  const InodeRef inode = FS_TRY(inodes_.get(ino));
  if (!inode->is_symlink()) return ErrorCode::not_a_symlink;
  uint64_t length_bytes = 0;
  {
    MutexLock lock(inode->state.mutex);
    if (inode->erased) return ErrorCode::stale_inode;
    length_bytes = inode->state.attributes.size_bytes;
  }
  const auto items =
      FS_TRY(store_->scan(Key(ino, ItemKind::inline_data, 0),
                          Key(ino, ItemKind::inline_data, kMaxSymlinkBytes), kMaxSymlinkBytes));
  std::string target;
  for (const Item& item : items) {
    if (item.key.offset != target.size()) break;
    target.append(reinterpret_cast<const char*>(item.value.data()), item.value.size());
  }
  if (target.size() == length_bytes) {
    note_access(*inode);
    return target;
  }
  // Removed a moment ago, or damaged.
  MutexLock lock(inode->state.mutex);
  if (inode->erased) return ErrorCode::stale_inode;
  return Error(ErrorCode::item_invalid, "the target of a symbolic link is incomplete");
}

}  // namespace stablefs
