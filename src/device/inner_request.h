// SPDX-License-Identifier: GPL-2.0-or-later
// For devices that wrap another one: a copy of a request that the wrapper may change (address,
// length, completion) and that owns itself until it has completed.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "device/block_device.h"

namespace stablefs {

struct InnerRequest {
  DeviceRequest request;
  std::vector<iovec> memory;

  // The first `length_blocks` blocks of `outer`.
  static std::unique_ptr<InnerRequest> first_blocks_of(const DeviceRequest& outer,
                                                       uint64_t length_blocks) {
    auto inner = std::make_unique<InnerRequest>();
    inner->request = DeviceRequest{outer.op,     outer.lba,      length_blocks, {},
                                   outer.tuples, outer.interval, outer.fua,     nullptr};
    if (outer.op == DeviceOp::read || outer.op == DeviceOp::write) {
      inner->memory = slice_memory(outer.memory, 0, length_blocks * kBlockSize);
      inner->request.memory = inner->memory;
    }
    if (!outer.tuples.empty()) {
      inner->request.tuples = outer.tuples.first(length_blocks * tuples_per_block(outer.interval));
    }
    return inner;
  }

  // Hands `inner` to the device; it is freed when `complete` has returned.
  static void submit(std::unique_ptr<InnerRequest> inner, BlockDevice& device,
                     std::function<void(Status, uint64_t)> complete) {
    InnerRequest* raw = inner.release();
    raw->request.complete = [raw, complete = std::move(complete)](Status status, uint64_t done) {
      const std::unique_ptr<InnerRequest> owner(raw);
      complete(std::move(status), done);
    };
    device.submit(raw->request);
  }
};

}  // namespace stablefs
