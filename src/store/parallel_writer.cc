// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/parallel_writer.h"

#include <fmt/format.h>

namespace stablefs {

struct ParallelWriter::Operation {
  std::shared_ptr<AlignedBuffer> buffer;
  iovec memory;
  DeviceRequest request;
};

void ParallelWriter::write(Lba lba, Lba second, std::shared_ptr<AlignedBuffer> buffer,
                           size_t length_bytes) {
  submit(lba, buffer, length_bytes);
  if (second.value != 0) submit(second, std::move(buffer), length_bytes);
}

void ParallelWriter::submit(Lba lba, std::shared_ptr<AlignedBuffer> buffer, size_t length_bytes) {
  {
    MutexLock lock(mutex_);
    while (in_flight_ >= max_in_flight_) changed_.wait(mutex_);
    ++in_flight_;
  }
  auto* operation = new Operation{std::move(buffer), {}, {}};  // freed by its completion
  operation->memory = {operation->buffer->data(), length_bytes};
  operation->request.op = DeviceOp::write;
  operation->request.lba = lba;
  operation->request.length_blocks = length_bytes / kBlockSize;
  operation->request.memory = {&operation->memory, 1};
  operation->request.complete = [this, operation](Status status, uint64_t blocks_done) {
    const DeviceRequest& request = operation->request;
    if (status.ok() && blocks_done != request.length_blocks) {
      status = Error(ErrorCode::device_short,
                     fmt::format("write of {} blocks at block {}: only {} done",
                                 request.length_blocks, request.lba.value, blocks_done));
    }
    std::unique_ptr<Operation> owned(operation);
    auto completion = std::move(operation->request.complete);  // runs on: keep the closure alive
    owned.reset();
    finished(status);
  };
  device_.submit(operation->request);
}

void ParallelWriter::finished(const Status& status) {
  MutexLock lock(mutex_);
  if (status_.ok()) status_ = status;
  --in_flight_;
  changed_.notify_all();
}

Status ParallelWriter::wait() {
  MutexLock lock(mutex_);
  while (in_flight_ != 0) changed_.wait(mutex_);
  return status_;
}

}  // namespace stablefs
