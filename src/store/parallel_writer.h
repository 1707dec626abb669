// SPDX-License-Identifier: GPL-2.0-or-later
// Many writes in flight at once, bounded, with one status at the end.
#pragma once

#include <memory>
#include <span>

#include "base/sync.h"
#include "device/block_device.h"

namespace stablefs {

class ParallelWriter {
 public:
  ParallelWriter(BlockDevice& device, uint32_t max_in_flight)
      : device_(device), max_in_flight_(max_in_flight) {}
  ~ParallelWriter() { static_cast<void>(wait().ok()); }

  // The buffer is written to `lba` and, when not 0, to `second`; freed when both are done.
  // `length_bytes`: how much of it. Waits when too much is in flight.
  void write(Lba lba, Lba second, std::shared_ptr<AlignedBuffer> buffer, size_t length_bytes);
  Status wait();  // for everything submitted; the first error

 private:
  struct Operation;
  void submit(Lba lba, std::shared_ptr<AlignedBuffer> buffer, size_t length_bytes);
  void finished(const Status& status);

  BlockDevice& device_;
  const uint32_t max_in_flight_;
  Mutex mutex_{LockRank::leaf, "parallel writer"};
  CondVar changed_;
  uint32_t in_flight_ FS_GUARDED_BY(mutex_) = 0;
  Status status_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
