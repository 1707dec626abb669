// SPDX-License-Identifier: GPL-2.0-or-later
// Reading directories. A position is the cookie of an entry, which is its key: entries that come
// and go meanwhile do not move the others.
#include <dirent.h>

#include "fs/file_system_impl.h"

namespace stablefs {
namespace {

constexpr size_t kBatchEntries = 128;  // between two of them others may change the directory

}  // namespace

Status FileSystemImpl::read_directory(Ino ino, uint64_t after, bool count_lookup,
                                      const EmitEntry& emit) {
  FS_TRY(check_running());
  const InodeRef inode = FS_TRY(directory(ino));
  Listing listing{*inode, after, count_lookup, emit};
  FS_TRY(emit_dots(listing));
  while (listing.more) FS_TRY(emit_batch(listing));
  note_access(*inode);
  return {};
}

Status FileSystemImpl::emit_dots(Listing& listing) {
  Ino parent;
  {
    MutexLock lock(listing.inode.state.mutex);
    if (listing.inode.state.attributes.link_count == 0) return ErrorCode::not_found;
    parent = listing.inode.state.attributes.parent;
  }
  const Ino self = listing.inode.ino();
  if (self == kRootIno) parent = kRootIno;
  for (const DirectoryEntry& dots : {DirectoryEntry{kDotCookie, self, DT_DIR, "."},
                                     DirectoryEntry{kDotDotCookie, parent, DT_DIR, ".."}}) {
    if (listing.after >= dots.cookie) continue;
    listing.more = listing.emit(dots, nullptr);
    if (!listing.more) return {};
    listing.after = dots.cookie;
  }
  return {};
}

Status FileSystemImpl::emit_batch(Listing& listing) {
  SharedLock names(listing.inode.names);
  auto dirents = FS_TRY(directories_.list(listing.inode.ino(), listing.after, kBatchEntries));
  listing.more = dirents.size() == kBatchEntries;
  for (Dirent& dirent : dirents) {
    // An entry whose inode cannot be had is shown all the same: a lookup of it will say why.
    InodeRef found;
    if (listing.count_lookup) {
      auto loaded = child(dirent);
      if (loaded.ok()) found = std::move(loaded).value();
    }
    Attributes attributes;
    if (found) attributes = attributes_of(*found);
    const DirectoryEntry entry{dirent.cookie, dirent.ino, dirent.type, std::move(dirent.name)};
    if (!listing.emit(entry, found ? &attributes : nullptr)) {
      listing.more = false;
      return {};
    }
    if (found) inodes_.add_lookup(*found);
    listing.after = entry.cookie;
  }
  return {};
}

}  // namespace stablefs
