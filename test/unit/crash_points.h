// SPDX-License-Identifier: GPL-2.0-or-later
// A device that remembers what a power failure could have hit before each of its operations, and
// the crash images of such a moment.
#pragma once

#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "device/memory_device.h"

namespace stablefs {

struct CrashPoint {
  VolatileCache cache;
  size_t acknowledged;  // how far the script had come by its own account
};

// Passes everything on to a memory device.
class CrashPointDevice final : public BlockDevice {
 public:
  explicit CrashPointDevice(MemoryDevice& inner) : inner_(inner) {}

  void submit(DeviceRequest& request) override {
    if (watching) note();
    if (refuse_flush && request.op == DeviceOp::flush) {
      request.complete(ErrorCode::device_flush, 0);
      return;
    }
    inner_.submit(request);
  }
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return "crash points"; }
  bool read_only() const override { return false; }

  void note() {
    // In this order: what is acknowledged by now is in the state.
    const size_t acknowledged_before = acknowledged;
    CrashPoint point{inner_.crash_state(), acknowledged_before};
    MutexLock lock(mutex_);
    points_.push_back(std::move(point));
  }
  // Those so far; threads of the filesystem under test may go on working.
  std::vector<CrashPoint> stop_watching() {
    watching = false;
    MutexLock lock(mutex_);
    return std::exchange(points_, {});
  }

  std::atomic<bool> watching{false};
  std::atomic<bool> refuse_flush{false};
  std::atomic<size_t> acknowledged{0};

 private:
  MemoryDevice& inner_;
  Mutex mutex_{LockRank::leaf, "crash points"};  // several threads use a device
  std::vector<CrashPoint> points_ FS_GUARDED_BY(mutex_);
};

// Calls visit with images the cache may leave: all of it, nothing, each write alone missing, each
// prefix, and `random` torn ones.
inline void for_each_crash_image(const VolatileCache& cache, uint64_t seed, int random,
                                 const std::function<void(const MemoryImage&)>& visit) {
  const size_t count = cache.events().size();
  Prng prng(seed);
  std::vector<WriteFate> fates(count, WriteFate::kept);
  visit(cache.crash_image(fates, prng));
  for (size_t i = 0; i < count; ++i) {
    fates[i] = WriteFate::dropped;
    visit(cache.crash_image(fates, prng));
    fates[i] = WriteFate::kept;
  }
  for (size_t i = count; i-- > 0;) {  // shorter and shorter prefixes, down to nothing
    fates[i] = WriteFate::dropped;
    visit(cache.crash_image(fates, prng));
  }
  if (count == 0) return;
  for (int i = 0; i < random; ++i) visit(cache.crash_image(CrashPolicy::torn, prng));
}

}  // namespace stablefs
