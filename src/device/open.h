// SPDX-License-Identifier: GPL-2.0-or-later
// Opening a real SOURCE: a block device or an image file, through io_uring.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/log.h"
#include "device/block_device.h"

namespace stablefs {

struct OpenDeviceOptions {
  bool read_only = false;
  // Refuse a source that is mounted or in use: O_EXCL on a block device (held until
  // release_exclusive()), an OFD write lock on the whole image file (held until closed; a read
  // lock when read_only). Waits up to `exclusive_wait_ms` for a predecessor to let go.
  bool exclusive = true;
  uint32_t exclusive_wait_ms = 0;
};

class SourceDevice : public BlockDevice {
 public:
  virtual bool is_block_device() const = 0;
  virtual std::string path() const = 0;  // canonical
  virtual int descriptor() const = 0;    // for ioctls and blkid; owned by the device
  // Gives up O_EXCL (mount(2) of a block device needs it free) but keeps the device open. No-op
  // for images.
  virtual void release_exclusive() = 0;
};

// O_DIRECT where the host allows it, buffered with fdatasync else (logged). FLUSH = fdatasync,
// FUA = RWF_DSYNC, discard = BLKDISCARD or punch hole.
Result<std::unique_ptr<SourceDevice>> open_source(const std::string& path,
                                                  const OpenDeviceOptions& options, Logger& logger);

}  // namespace stablefs
