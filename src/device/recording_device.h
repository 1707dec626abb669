// SPDX-License-Identifier: GPL-2.0-or-later
// Records everything asked of the device below, in one order of submissions, completions and
// marks. A write is recorded before it reaches the device and a completion before its owner hears
// of it, so that whatever the owner did because of it comes later in the log.
#pragma once

#include <string_view>

#include "base/sync.h"
#include "device/block_device.h"
#include "device/io_log.h"

namespace stablefs {

class RecordingDevice final : public BlockDevice {
 public:
  RecordingDevice(BlockDevice& inner, IoLogSink& sink) : inner_(inner), sink_(sink) {}

  void submit(DeviceRequest& request) override;
  uint64_t block_count() const override { return inner_.block_count(); }
  std::string name() const override { return inner_.name(); }
  bool read_only() const override { return inner_.read_only(); }
  bool supports_discard() const override { return inner_.supports_discard(); }
  void abort() override { inner_.abort(); }

  void mark(std::string_view text);

 private:
  uint64_t record_submit(const DeviceRequest& request) FS_EXCLUDES(mutex_);
  void record_complete(const DeviceRequest& request, uint64_t number, bool failed,
                       uint64_t blocks_done) FS_EXCLUDES(mutex_);

  BlockDevice& inner_;
  Mutex mutex_{LockRank::device, "I/O log"};
  IoLogSink& sink_;  // called under mutex_
  uint64_t last_request_ FS_GUARDED_BY(mutex_) = 0;
};

}  // namespace stablefs
