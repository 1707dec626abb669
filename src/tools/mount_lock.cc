// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/mount_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <utility>

namespace stablefs {
namespace {

constexpr int kWaitMs = 60'000;
constexpr int kLookAgainMs = 20;

// There flock(2) is the same lock as the one that the daemon holds on its image.
bool is_on_nfs(int descriptor) {
  struct statfs info {};
  return ::fstatfs(descriptor, &info) == 0 && info.f_type == NFS_SUPER_MAGIC;
}

}  // namespace

MountLock::MountLock(const std::string& source_path)
    : descriptor_(::open(source_path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (descriptor_ < 0) return;
  if (is_on_nfs(descriptor_)) {
    release();
    return;
  }
  for (int waited_ms = 0; waited_ms < kWaitMs; waited_ms += kLookAgainMs) {
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
    if (errno != EWOULDBLOCK && errno != EINTR) break;
    ::usleep(kLookAgainMs * 1000);
  }
  release();
}

void MountLock::release() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace stablefs
