// SPDX-License-Identifier: GPL-2.0-or-later
// Mounts of one source go one after the other: whoever comes second finds the first one usable, not
// half-way.
#pragma once

#include <string>

namespace stablefs {

class MountLock {
 public:
  // Waits, but not for ever; without the lock a mount only meets its rival less gracefully.
  explicit MountLock(const std::string& source_path);
  ~MountLock() { release(); }
  MountLock(const MountLock&) = delete;
  MountLock& operator=(const MountLock&) = delete;

  void release();

 private:
  int descriptor_ = -1;
};

}  // namespace stablefs
