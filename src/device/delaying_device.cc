// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/delaying_device.h"

namespace stablefs {

DelayingDevice::DelayingDevice(BlockDevice& inner, Clock& clock, uint64_t longest_ns, uint64_t seed)
    : inner_(inner), clock_(clock), longest_ns_(longest_ns), prng_(seed) {
  thread_ = Thread("delayed writes", [this] { release_due(); });
}

DelayingDevice::~DelayingDevice() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void DelayingDevice::submit(DeviceRequest& request) {
  if (request.op != DeviceOp::write) {
    inner_.submit(request);
    return;
  }
  const uint64_t now_ns = clock_.monotonic_ns();
  MutexLock lock(mutex_);
  const uint64_t delay_ns = aborted_ ? 0 : prng_.next() % (longest_ns_ + 1);
  const auto at = held_.emplace(now_ns + delay_ns, &request);
  if (at == held_.begin()) changed_.notify_one();
}

void DelayingDevice::release_due() {
  MutexLock lock(mutex_);
  while (true) {
    if (held_.empty()) {
      if (stopping_) return;
      changed_.wait(mutex_);
      continue;
    }
    const auto first = held_.begin();
    const uint64_t due_ns = first->first;
    if (!stopping_ && !aborted_ && due_ns > clock_.monotonic_ns()) {
      changed_.wait_until(mutex_, clock_, due_ns);
      continue;
    }
    DeviceRequest* const request = first->second;
    held_.erase(first);
    lock.unlock();
    inner_.submit(*request);
    lock.lock();
  }
}

// What is held is handed on now, and fails there.
void DelayingDevice::abort() {
  inner_.abort();
  MutexLock lock(mutex_);
  aborted_ = true;
  changed_.notify_one();
}

}  // namespace stablefs
