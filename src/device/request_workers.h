// SPDX-License-Identifier: GPL-2.0-or-later
// Threads that execute requests one by one with blocking system calls: for what the ring cannot do
// (discard, write-zeroes), and for everything where the host does not allow io_uring.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "base/sync.h"
#include "device/block_device.h"

namespace stablefs {

class RequestWorkers {
 public:
  // `execute` completes the request it is given.
  RequestWorkers(size_t threads, std::function<void(DeviceRequest&)> execute);
  ~RequestWorkers();  // executes what is queued first

  void submit(DeviceRequest& request);

 private:
  void work();

  const std::function<void(DeviceRequest&)> execute_;
  Mutex mutex_{LockRank::device, "request workers"};
  CondVar changed_;
  std::deque<DeviceRequest*> queue_ FS_GUARDED_BY(mutex_);
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_;
};

}  // namespace stablefs
