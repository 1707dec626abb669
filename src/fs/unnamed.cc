// SPDX-License-Identifier: GPL-2.0-or-later
// Files that are made without a name. They are what an unlinked open file is, from the start: the
// transaction that puts the inode notes it as an orphan, so a crash leaves nothing behind.
#include <sys/stat.h>

#include <utility>

#include "fs/file_system_impl.h"
#include "fs/namespace.h"

namespace stablefs {

Result<std::pair<Attributes, HandleId>> FileSystemImpl::create_unnamed(Ino directory,
                                                                       const NewFile& file,
                                                                       const OpenFlags& flags) {
  NewFile regular = file;
  regular.mode = S_IFREG | (file.mode & ~static_cast<uint32_t>(S_IFMT));
  return open_created(
      FS_TRY(with_freed_space([&] { return try_create_unnamed(directory, regular); })), flags);
}

Result<InodeRef> FileSystemImpl::try_create_unnamed(Ino directory_ino, const NewFile& file) {
  FS_TRY(check_changeable());
  const InodeRef parent = FS_TRY(directory(directory_ino));
  InodeRef inode = new_inode(file, now());
  ItemUpdate update(*store_, {parent.get(), inode.get()});
  InodeAttributes& created = update.put_new(*inode);
  inherit_group(update.get(*parent), created);
  FS_TRY(inherit(update, *parent, *inode, file.umask));
  created.link_count = 0;
  Orphans::doom(update.transaction(), inode->ino());
  FS_TRY(update.commit(true));
  // In this order: as soon as it is doomed, the end of any use of it may remove it.
  inodes_.add_lookup(*inode);
  inodes_.set_contents(*inode, Contents::doomed);
  return inode;
}

}  // namespace stablefs
