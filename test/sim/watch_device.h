// SPDX-License-Identifier: GPL-2.0-or-later
// Sees every submission and completion on its way to a device: what happened goes into a digest,
// and a camera may take pictures of what a power failure at that moment would leave.
#pragma once

#include <cstdint>
#include <functional>

#include "device/block_device.h"

namespace stablefs::sim {

uint64_t mix(uint64_t hash, uint64_t value);

class WatchDevice final : public BlockDevice {
 public:
  explicit WatchDevice(BlockDevice& inner) : inner_(inner) {}

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override { inner_.abort(); }

  uint64_t events() const { return events_; }
  uint64_t digest() const { return digest_; }

  // Called before a write, flush or discard is handed on, and before its completion is passed on.
  std::function<void(const DeviceRequest& request, bool completed)> on_event;
  // Called behind a completion, on the device's thread: a slow device has more to choose from next.
  std::function<void()> linger;

 private:
  void note(const DeviceRequest& request, bool completed);

  BlockDevice& inner_;
  // Under a scheduler the baton guards these.
  uint64_t events_ = 0;
  uint64_t digest_ = 0;
};

}  // namespace stablefs::sim
