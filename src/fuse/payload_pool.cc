// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/payload_pool.h"

namespace stablefs {

PayloadPool::PayloadPool(size_t kept_buffers_max)
    : shelf_(std::make_shared<Shelf>(kept_buffers_max)) {}

std::shared_ptr<Buffer> PayloadPool::take() {
  std::unique_ptr<Buffer> buffer;
  {
    MutexLock lock(shelf_->mutex);
    if (!shelf_->buffers.empty()) {
      buffer = std::move(shelf_->buffers.back());
      shelf_->buffers.pop_back();
    }
  }
  if (!buffer) buffer = std::make_unique<Buffer>(kReceiveBufferBytes);
  return {buffer.release(), [shelf = shelf_](Buffer* last) { put_back(shelf, last); }};
}

void PayloadPool::put_back(const std::shared_ptr<Shelf>& shelf, Buffer* buffer) {
  std::unique_ptr<Buffer> owned(buffer);
  MutexLock lock(shelf->mutex);
  if (shelf->buffers.size() < shelf->kept_buffers_max) shelf->buffers.push_back(std::move(owned));
}

}  // namespace stablefs
