// SPDX-License-Identifier: GPL-2.0-or-later
// Holds every write back for a random while before it hands it on: an adapter that has accepted a
// request and has not fetched its memory yet. Flushes pass: they cover completed writes only.
#pragma once

#include <map>

#include "base/clock.h"
#include "base/prng.h"
#include "base/sync.h"
#include "device/block_device.h"

namespace stablefs {

class DelayingDevice final : public BlockDevice {
 public:
  DelayingDevice(BlockDevice& inner, Clock& clock, uint64_t longest_ns, uint64_t seed);
  ~DelayingDevice() override;  // hands on what is held

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override;
  const DeviceCounters& counters() const override { return inner_.counters(); }

 private:
  void release_due();

  BlockDevice& inner_;
  Clock& clock_;
  const uint64_t longest_ns_;
  Mutex mutex_{LockRank::device, "delayed writes"};
  CondVar changed_;
  Prng prng_ FS_GUARDED_BY(mutex_);
  std::multimap<uint64_t, DeviceRequest*> held_ FS_GUARDED_BY(mutex_);  // by when they go on
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  bool aborted_ FS_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace stablefs
