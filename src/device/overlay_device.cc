// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/overlay_device.h"

#include <utility>

namespace stablefs {

void OverlayDevice::submit(DeviceRequest& request) {
  Status status = validate(request);
  if (status.ok()) {
    count(request);
    MutexLock lock(mutex_);
    execute(request);
  }
  const uint64_t blocks_done = status.ok() ? request.length_blocks : 0;
  finish(request, std::move(status), blocks_done);
}

void OverlayDevice::execute(const DeviceRequest& request) {
  static const MemoryImage::Page zeros{};
  AlignedBuffer block;
  switch (request.op) {
    case DeviceOp::read:
      for (uint64_t i = 0; i < request.length_blocks; ++i) {
        const auto page = image_.page(request.lba + i);
        copy_to_memory(request.memory, i * kBlockSize, page ? *page : zeros);
      }
      return;
    case DeviceOp::write:
      block = AlignedBuffer(kBlockSize);
      for (uint64_t i = 0; i < request.length_blocks; ++i) {
        copy_from_memory(request.memory, i * kBlockSize, block.span());
        image_.set_page(request.lba + i, make_page(block.span()));
      }
      return;
    case DeviceOp::discard:
    case DeviceOp::write_zeroes:
      image_.zero({request.lba, request.length_blocks});
      return;
    case DeviceOp::flush:
      return;
  }
}

}  // namespace stablefs
