// SPDX-License-Identifier: GPL-2.0-or-later
// The open descriptors of a SOURCE (block device or image file) and its I/O on the calling thread.
// Stateless between calls, therefore thread-safe without a lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "device/block_device.h"

namespace stablefs {

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

struct SourceFile {
  Descriptor io;     // all I/O; holds the OFD lock of an image
  Descriptor claim;  // O_EXCL on a block device; invalid when not claimed
  Descriptor image;  // of a loop device: holds the OFD lock on its part of the image
  std::string path;  // canonical
  uint64_t block_count = 0;
  bool block_device = false;
  bool read_only = false;
  bool discard = false;
};

struct TransferOutcome {
  Status status;
  uint64_t blocks_done = 0;
};

// Executes a valid request here and now. `aborted` is looked at between system calls.
TransferOutcome execute(const SourceFile& source, const DeviceRequest& request,
                        const std::atomic<bool>& aborted);

// The error of a failed operation: its code and what, where, why.
Error device_error(const DeviceRequest& request, int errno_value);

}  // namespace stablefs
