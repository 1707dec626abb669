// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/request_workers.h"

namespace stablefs {

RequestWorkers::RequestWorkers(size_t threads, std::function<void(DeviceRequest&)> execute)
    : execute_(std::move(execute)) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back("device worker", [this] { work(); });
}

RequestWorkers::~RequestWorkers() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  threads_.clear();
}

void RequestWorkers::submit(DeviceRequest& request) {
  MutexLock lock(mutex_);
  queue_.push_back(&request);
  changed_.notify_one();
}

void RequestWorkers::work() {
  MutexLock lock(mutex_);
  while (true) {
    while (queue_.empty() && !stopping_) changed_.wait(mutex_);
    if (queue_.empty()) return;
    DeviceRequest& request = *queue_.front();
    queue_.pop_front();
    lock.unlock();
    execute_(request);
    lock.lock();
  }
}

}  // namespace stablefs
