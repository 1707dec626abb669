// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel's writeback cache keeps mtime and ctime of files itself and takes no others from us,
// but does not move them for writes that bypass it, nor for changed flags (chattr). So what it
// shows of such a file is old. When the last open file is gone we ask it to forget the inode: the
// next look brings our times. It cannot while somebody holds the name, so it is asked again, less
// and less often, until it has.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>

#include "base/clock.h"
#include "base/ids.h"
#include "base/sync.h"

namespace stablefs {

// Thread-safe. The thread begins with the first file.
class StaleTimes {
 public:
  explicit StaleTimes(std::function<void(Ino)> ask_to_forget)
      : ask_to_forget_(std::move(ask_to_forget)) {}
  ~StaleTimes() { stop(); }
  StaleTimes(const StaleTimes&) = delete;
  StaleTimes& operator=(const StaleTimes&) = delete;

  // What the kernel has is old.
  void add(Ino ino) FS_EXCLUDES(mutex_);
  // An open file is gone: if what the kernel has is old, now may be the time.
  void hasten(Ino ino) FS_EXCLUDES(mutex_);
  // The kernel has forgotten it, or has it open for direct writes again.
  void remove(Ino ino) FS_EXCLUDES(mutex_);
  void stop() FS_EXCLUDES(mutex_);

 private:
  struct Entry {
    uint64_t due_ns;
    uint64_t delay_ns;
  };
  void begin(Entry& entry) FS_REQUIRES(mutex_);
  void run() FS_EXCLUDES(mutex_);

  const std::function<void(Ino)> ask_to_forget_;
  SystemClock clock_;
  Mutex mutex_{LockRank::session, "stale times"};
  CondVar work_;
  std::map<Ino, Entry> files_ FS_GUARDED_BY(mutex_);
  std::atomic<size_t> count_{0};  // of files_
  bool stop_ FS_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace stablefs
