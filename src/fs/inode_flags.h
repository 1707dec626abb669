// SPDX-License-Identifier: GPL-2.0-or-later
// What the immutable and the append-only flag forbid, as Linux has it; not_permitted then. The
// kernel leaves all of it to the filesystem.
#pragma once

#include "base/result.h"
#include "fs/file_system.h"
#include "fs/inode.h"

namespace stablefs {

inline constexpr uint32_t kInodeFixed = kInodeImmutable | kInodeAppendOnly;
// A new inode has these from its directory.
inline constexpr uint32_t kInheritedInodeFlags = kInodeNoDump | kInodeNoAccessTime;

inline Status refuse_flags(const Inode& inode, uint32_t forbidden) {
  if ((inode.flags & forbidden) != 0) return ErrorCode::not_permitted;
  return {};
}

// Mode, owner, extended attributes; other changes than appending; a further link.
inline Status check_not_fixed(const Inode& inode) {
  return refuse_flags(inode, kInodeFixed);
}
inline Status check_entry_may_come(const Inode& directory) {
  return refuse_flags(directory, kInodeImmutable);
}
inline Status check_entry_may_go(const Inode& directory, const Inode& entry) {
  const Status status = refuse_flags(directory, kInodeFixed);
  return status.ok() ? refuse_flags(entry, kInodeFixed) : status;
}
Status check_may_open(const Inode& inode, const OpenFlags& flags);

// The kernel's writeback cache keeps times itself and sends them again and again.
bool is_times_of_writeback(const AttributeChange& change);

}  // namespace stablefs
