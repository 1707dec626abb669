// SPDX-License-Identifier: GPL-2.0-or-later
// Puts off some writes until everybody waits for them, or for long: whoever goes on without the
// completion of a write goes on without the write.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/prng.h"
#include "base/sync.h"
#include "device/block_device.h"

namespace stablefs::sim {

class LazyDevice final : public BlockDevice {
 public:
  // One in `one_in` writes is put off; 0: none. To be made in a scheduler's run.
  LazyDevice(BlockDevice& inner, Clock& clock, uint64_t seed, uint64_t one_in);
  ~LazyDevice() override;

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override { inner_.abort(); }

 private:
  void work();

  BlockDevice& inner_;
  Clock& clock_;
  const uint64_t one_in_;
  Mutex mutex_{LockRank::device, "lazy device"};
  CondVar changed_;
  Prng prng_ FS_GUARDED_BY(mutex_);
  std::vector<DeviceRequest*> held_ FS_GUARDED_BY(mutex_);
  bool stopping_ FS_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace stablefs::sim
