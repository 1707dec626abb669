// SPDX-License-Identifier: GPL-2.0-or-later
// A device whose writes stay in memory, over an image that is only read: for trying what becomes of
// one of many states of a device. Every write is there at once; a flush has nothing to do.
#pragma once

#include "base/sync.h"
#include "device/block_device.h"
#include "device/image_overlay.h"

namespace stablefs {

class OverlayDevice final : public BlockDevice {
 public:
  explicit OverlayDevice(ImageOverlay image)
      : block_count_(image.block_count()), image_(std::move(image)) {}

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return block_count_; }
  std::string name() const override { return "crash image"; }
  bool read_only() const override { return false; }
  bool supports_discard() const override { return true; }

 private:
  void execute(const DeviceRequest& request) FS_REQUIRES(mutex_);

  const uint64_t block_count_;
  mutable Mutex mutex_{LockRank::device, "overlay device"};
  ImageOverlay image_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
