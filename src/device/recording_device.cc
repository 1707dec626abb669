// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/recording_device.h"

#include "device/inner_request.h"

namespace stablefs {

void RecordingDevice::submit(DeviceRequest& request) {
  if (Status valid = validate(request); !valid.ok()) {
    finish(request, std::move(valid), 0);
    return;
  }
  count(request);
  const uint64_t number = record_submit(request);
  auto inner = InnerRequest::first_blocks_of(request, request.length_blocks);
  InnerRequest::submit(std::move(inner), inner_,
                       [this, &request, number](Status status, uint64_t done) {
                         record_complete(request, number, !status.ok(), done);
                         finish(request, std::move(status), done);
                       });
}

uint64_t RecordingDevice::record_submit(const DeviceRequest& request) {
  IoEvent event;
  event.op = request.op;
  event.fua = request.fua;
  event.lba = request.lba;
  event.length_blocks = request.length_blocks;
  if (request.op == DeviceOp::write) {
    event.payload.resize(request.length_blocks * kBlockSize);
    copy_from_memory(request.memory, 0, event.payload);
  }
  MutexLock lock(mutex_);
  event.request = ++last_request_;
  sink_.append(std::move(event));
  return last_request_;
}

void RecordingDevice::record_complete(const DeviceRequest& request, uint64_t number, bool failed,
                                      uint64_t blocks_done) {
  IoEvent event;
  event.kind = IoEventKind::complete;
  event.op = request.op;
  event.fua = request.fua;
  event.failed = failed;
  event.request = number;
  event.lba = request.lba;
  event.length_blocks = blocks_done;
  MutexLock lock(mutex_);
  sink_.append(std::move(event));
}

void RecordingDevice::mark(std::string_view text) {
  IoEvent event;
  event.kind = IoEventKind::mark;
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  event.payload.assign(bytes.begin(), bytes.end());
  MutexLock lock(mutex_);
  sink_.append(std::move(event));
}

}  // namespace stablefs
