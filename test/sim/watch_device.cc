// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/watch_device.h"

#include "base/prng.h"
#include "device/inner_request.h"

namespace stablefs::sim {

uint64_t mix(uint64_t hash, uint64_t value) {
  return Prng(hash ^ value).next();
}

void WatchDevice::submit(DeviceRequest& request) {
  count(request);
  if (request.op == DeviceOp::read) {
    inner_.submit(request);
    return;
  }
  note(request, false);
  if (on_event) on_event(request, false);
  auto inner = InnerRequest::first_blocks_of(request, request.length_blocks);
  InnerRequest::submit(std::move(inner), inner_, [this, &request](Status status, uint64_t done) {
    note(request, true);
    if (on_event) on_event(request, true);
    finish(request, std::move(status), done);
    if (linger) linger();
  });
}

void WatchDevice::note(const DeviceRequest& request, bool completed) {
  ++events_;
  digest_ = mix(digest_, (static_cast<uint64_t>(request.op) << 2) | (request.fua ? 2 : 0) |
                             (completed ? 1 : 0));
  digest_ = mix(digest_, request.lba.value);
  digest_ = mix(digest_, request.length_blocks);
  if (completed) return;
  for (const iovec& part : request.memory) {
    digest_ = mix(digest_, crc32c(0, {static_cast<const std::byte*>(part.iov_base), part.iov_len}));
  }
}

}  // namespace stablefs::sim
