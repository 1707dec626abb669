// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/uring_device.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace stablefs {
namespace {

constexpr size_t kWorkersBesideRing = 1;
constexpr size_t kWorkersWithoutRing = 8;

bool goes_to_ring(DeviceOp op) {
  return op == DeviceOp::read || op == DeviceOp::write || op == DeviceOp::flush;
}

bool is_empty(const DeviceRequest& request) {
  return request.op != DeviceOp::flush && request.length_blocks == 0;
}

}  // namespace

UringDevice::UringDevice(SourceFile source, bool use_ring, Logger& logger)
    : source_(std::move(source)) {
  if (use_ring) {
    auto ring = UringQueue::create(
        source_.io.get(), [this](DeviceRequest& request, Status status, uint64_t blocks_done) {
          finish(request, std::move(status), blocks_done);
        });
    if (ring.ok()) {
      ring_ = std::move(ring).value();
    } else {
      logger.write(LogLevel::warning,
                   fmt::format("{}: {}; using threads instead", name(), ring.error().message()));
    }
  }
  workers_ = std::make_unique<RequestWorkers>(
      ring_ ? kWorkersBesideRing : kWorkersWithoutRing,
      [this](DeviceRequest& request) { execute_and_finish(request); });
}

// The queues go before the descriptors they use.
UringDevice::~UringDevice() {
  ring_.reset();
  workers_.reset();
}

// False when the request was completed already.
bool UringDevice::accept(DeviceRequest& request) {
  Status status = validate(request);
  if (status.ok() && aborted_) status = ErrorCode::device_aborted;
  if (status.ok()) count(request);
  if (status.ok() && !is_empty(request)) return true;
  finish(request, std::move(status), 0);
  return false;
}

void UringDevice::submit(DeviceRequest& request) {
  if (!accept(request)) return;
  if (!ring_ || !goes_to_ring(request.op)) {
    workers_->submit(request);
    return;
  }
  DeviceRequest* const one = &request;
  if (!ring_->submit({&one, 1})) finish(request, ErrorCode::device_aborted, 0);
}

void UringDevice::submit_all(std::span<DeviceRequest* const> requests) {
  std::vector<DeviceRequest*> for_ring;
  for_ring.reserve(requests.size());
  for (DeviceRequest* request : requests) {
    if (!accept(*request)) continue;
    if (ring_ && goes_to_ring(request->op)) {
      for_ring.push_back(request);
    } else {
      workers_->submit(*request);
    }
  }
  if (for_ring.empty() || ring_->submit(for_ring)) return;
  for (DeviceRequest* request : for_ring) finish(*request, ErrorCode::device_aborted, 0);
}

void UringDevice::execute_and_finish(DeviceRequest& request) {
  TransferOutcome outcome = execute(source_, request, aborted_);
  finish(request, std::move(outcome.status), outcome.blocks_done);
}

Status UringDevice::run(DeviceRequest& request) {
  Status status = validate(request);
  if (status.ok()) {
    count(request);
    TransferOutcome outcome = execute(source_, request, aborted_);
    status = whole(request, std::move(outcome.status), outcome.blocks_done);
  }
  if (!status.ok()) ++counters_.errors;
  return status;
}

void UringDevice::abort() {
  aborted_ = true;
  if (ring_) ring_->abort();
}

}  // namespace stablefs
