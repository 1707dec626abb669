// SPDX-License-Identifier: GPL-2.0-or-later
// Buffers of one page that were used before: making one anew costs about as much as all else that a
// copied page costs. Thread-safe. Buffers may outlive everybody but their pool, which they keep.
#pragma once

#include <memory>
#include <vector>

#include "base/sync.h"
#include "data/buffer.h"

namespace stablefs {

class PagePool : public std::enable_shared_from_this<PagePool> {
 public:
  // Whoever takes one writes every byte of it: it holds what its last user left.
  BufferSlice take();

 private:
  static constexpr size_t kKeptMax = 1024;
  void put(std::unique_ptr<Buffer> buffer);

  Mutex mutex_{LockRank::leaf, "page pool"};
  std::vector<std::unique_ptr<Buffer>> free_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
