// SPDX-License-Identifier: GPL-2.0-or-later
// Receive buffers. A request is read so that a WRITE's payload starts on a page boundary: its
// header and arguments end exactly at kPayloadOffset. The core may adopt the payload without a
// copy; the buffer then comes back here when its last user drops it, because memory touched for
// the first time costs more than the copy it saves.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/sync.h"
#include "data/buffer.h"

namespace stablefs {

inline constexpr size_t kMaxWriteBytes = 1u << 20;
inline constexpr size_t kPayloadOffset = kBlockSize;
inline constexpr size_t kReceiveBufferBytes = kPayloadOffset + kMaxWriteBytes + kBlockSize;

// Thread-safe. Buffers may outlive the pool's owner: they hold the shelf alive.
class PayloadPool {
 public:
  explicit PayloadPool(size_t kept_buffers_max);
  std::shared_ptr<Buffer> take();

 private:
  struct Shelf {
    explicit Shelf(size_t kept_max) : kept_buffers_max(kept_max) {}
    Mutex mutex{LockRank::leaf, "payload pool"};
    std::vector<std::unique_ptr<Buffer>> buffers FS_GUARDED_BY(mutex);
    const size_t kept_buffers_max;
  };
  static void put_back(const std::shared_ptr<Shelf>& shelf, Buffer* buffer);

  std::shared_ptr<Shelf> shelf_;
};

}  // namespace stablefs
