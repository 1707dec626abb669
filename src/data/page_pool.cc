// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/page_pool.h"

namespace stablefs {

BufferSlice PagePool::take() {
  std::unique_ptr<Buffer> buffer;
  {
    MutexLock lock(mutex_);
    if (!free_.empty()) {
      buffer = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (!buffer) buffer = std::make_unique<Buffer>(kBlockSize);
  const auto give_back = [pool = shared_from_this()](Buffer* used) {
    pool->put(std::unique_ptr<Buffer>(used));
  };
  return BufferSlice(std::shared_ptr<Buffer>(buffer.release(), give_back), 0, kBlockSize);
}

void PagePool::put(std::unique_ptr<Buffer> buffer) {
  MutexLock lock(mutex_);
  if (free_.size() < kKeptMax) free_.push_back(std::move(buffer));
}

}  // namespace stablefs
