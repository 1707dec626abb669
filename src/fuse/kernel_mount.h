// SPDX-License-Identifier: GPL-2.0-or-later
// Getting a /dev/fuse descriptor attached to a directory, and detached again.
#pragma once

#include <string>

#include "base/result.h"

namespace stablefs {

struct MountPoint {
  std::string source;       // as it shall stand in mountinfo
  std::string directory;    // absolute
  unsigned long flags = 0;  // MS_*
  // fuseblk: `source` is a block device; sync(2) and umount(2) wait for us.
  bool block_device = false;
  // Others than the mounting user may use it.
  bool allow_other = true;
};

Result<int> open_fuse_descriptor();

// mount(2) with CAP_SYS_ADMIN. EBUSY of a block device is device_busy.
Status mount_descriptor(int fuse_descriptor, const MountPoint& mount);

// Without privileges: the setuid helper fusermount3 mounts and hands back the descriptor. Only
// plain fuse; what the helper has to say goes to stderr.
Result<int> mount_by_helper(const MountPoint& mount);

// `detach`: also when files are open; the filesystem ends when the last is closed.
Status unmount_directory(const std::string& directory, bool detach);
Status unmount_by_helper(const std::string& directory, bool detach);

}  // namespace stablefs
