// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/lazy_device.h"

namespace stablefs::sim {
namespace {

// Virtual time jumps here when nobody else can run.
constexpr uint64_t kLongNs = 20 * kNsPerMs;

}  // namespace

LazyDevice::LazyDevice(BlockDevice& inner, Clock& clock, uint64_t seed, uint64_t one_in)
    : inner_(inner), clock_(clock), one_in_(one_in), prng_(seed) {
  if (one_in_ != 0) thread_ = Thread("lazy device", [this] { work(); });
}

LazyDevice::~LazyDevice() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void LazyDevice::submit(DeviceRequest& request) {
  count(request);
  const bool may_wait = request.op == DeviceOp::write && !request.fua && one_in_ != 0;
  if (may_wait) {
    MutexLock lock(mutex_);
    if (prng_.chance(one_in_)) {
      held_.push_back(&request);
      changed_.notify_all();
      return;
    }
  }
  inner_.submit(request);
}

void LazyDevice::work() {
  MutexLock lock(mutex_);
  while (true) {
    while (held_.empty() && !stopping_) changed_.wait(mutex_);
    if (held_.empty()) return;
    const uint64_t deadline_ns = clock_.monotonic_ns() + kLongNs;
    while (!stopping_ && changed_.wait_until(mutex_, clock_, deadline_ns)) {
    }
    const size_t index = prng_.below(held_.size());
    DeviceRequest* request = held_[index];
    held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
    lock.unlock();
    inner_.submit(*request);
    lock.lock();
  }
}

}  // namespace stablefs::sim
