// SPDX-License-Identifier: GPL-2.0-or-later
// A device in memory with a volatile write cache, for tests and simulations.
//
// Strict on purpose: a flush makes durable exactly what had been executed before the flush was
// submitted, requests complete in any order when asynchronous, and memory is read as late as the
// contract allows. Create an asynchronous device inside Scheduler::run() when its users run there:
// its thread must belong to the same scheduler.
#pragma once

#include <memory>
#include <vector>

#include "base/prng.h"
#include "base/sync.h"
#include "device/block_device.h"
#include "device/memory_image.h"
#include "device/volatile_cache.h"

namespace stablefs {

struct MemoryDeviceOptions {
  bool read_only = false;
  bool supports_discard = true;
  bool discard_zeroes = true;  // else a discarded block reads as old bytes, zeros or noise
  bool volatile_cache = true;  // else every write is durable when it completes
  bool asynchronous = false;   // complete on a thread of the device, in an order the seed picks
  uint64_t seed = 1;
};

class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(uint64_t block_count, MemoryDeviceOptions options = {});
  explicit MemoryDevice(MemoryImage contents, MemoryDeviceOptions options = {});
  ~MemoryDevice() override;  // completes what is pending

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return block_count_; }
  std::string name() const override { return "memory"; }
  bool read_only() const override { return options_.read_only; }
  bool supports_discard() const override { return options_.supports_discard; }
  void abort() override;

  MemoryImage image() const;          // what reads see now
  MemoryImage durable_image() const;  // what survives in the worst case
  // The cache as it is now, with the writes still in flight as its last events: for enumerating
  // crash images.
  VolatileCache crash_state() const;
  MemoryImage crash_image(CrashPolicy policy, Prng& prng) const;
  // Power failure and return: pending requests fail with device_aborted, the contents become a
  // crash image.
  void crash(CrashPolicy policy, Prng& prng);

 private:
  struct Pending {
    DeviceRequest* request;
    uint64_t flush_up_to;  // flush: the last sequence executed before it was submitted
  };

  // Popping and executing a request is one step under the lock: a crash finds every request either
  // in flight or in the cache.
  Status execute(const DeviceRequest& request, uint64_t flush_up_to) FS_REQUIRES(mutex_);
  void execute_read(const DeviceRequest& request) FS_REQUIRES(mutex_);
  void execute_discard(const DeviceRequest& request) FS_REQUIRES(mutex_);
  void work();

  const MemoryDeviceOptions options_;
  const uint64_t block_count_;
  mutable Mutex mutex_{LockRank::device, "memory device"};
  CondVar changed_;
  VolatileCache cache_ FS_GUARDED_BY(mutex_);
  Prng prng_ FS_GUARDED_BY(mutex_);
  std::vector<Pending> pending_ FS_GUARDED_BY(mutex_);
  bool aborted_ FS_GUARDED_BY(mutex_) = false;
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  Thread worker_;
};

}  // namespace stablefs
