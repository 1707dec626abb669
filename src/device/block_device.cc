// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/block_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/sync.h"

namespace stablefs {
namespace {

bool is_write(DeviceOp op) {
  return op != DeviceOp::read && op != DeviceOp::flush;
}

bool is_aligned(const iovec& part) {
  return reinterpret_cast<uintptr_t>(part.iov_base) % kBlockSize == 0 &&
         part.iov_len % kBlockSize == 0;
}

// Calls body(part, length) for each contiguous part of bytes [offset, offset + length).
template <class Body>
void for_parts(std::span<const iovec> memory, uint64_t offset_bytes, uint64_t length_bytes,
               Body body) {
  for (const iovec& part : memory) {
    if (length_bytes == 0) return;
    if (offset_bytes >= part.iov_len) {
      offset_bytes -= part.iov_len;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(length_bytes, part.iov_len - offset_bytes);
    body(static_cast<std::byte*>(part.iov_base) + offset_bytes, length);
    length_bytes -= length;
    offset_bytes = 0;
  }
  FS_ASSERT(length_bytes == 0);
}

}  // namespace

const char* to_string(DeviceOp op) {
  switch (op) {
    case DeviceOp::read:
      return "read";
    case DeviceOp::write:
      return "write";
    case DeviceOp::flush:
      return "flush";
    case DeviceOp::discard:
      return "discard";
    case DeviceOp::write_zeroes:
      return "write zeroes";
  }
  return "unknown";
}

void BlockDevice::submit_all(std::span<DeviceRequest* const> requests) {
  for (DeviceRequest* request : requests) submit(*request);
}

void BlockDevice::count(const DeviceRequest& request) {
  switch (request.op) {
    case DeviceOp::read:
      ++counters_.reads;
      counters_.read_blocks += request.length_blocks;
      break;
    case DeviceOp::write:
    case DeviceOp::write_zeroes:
      ++counters_.writes;
      counters_.written_blocks += request.length_blocks;
      if (request.fua) ++counters_.fua_writes;
      break;
    case DeviceOp::flush:
      ++counters_.flushes;
      break;
    case DeviceOp::discard:
      ++counters_.discards;
      break;
  }
}

Status BlockDevice::validate(const DeviceRequest& request) const {
  if (request.op == DeviceOp::flush) return {};
  const uint64_t blocks = block_count();
  if (request.lba.value > blocks || request.length_blocks > blocks - request.lba.value) {
    return Error(ErrorCode::device_range,
                 fmt::format("{} of {} blocks at {} of {}", to_string(request.op),
                             request.length_blocks, request.lba.value, blocks));
  }
  if (is_write(request.op) && read_only()) {
    return Error(ErrorCode::device_write, name() + " is open read-only");
  }
  if (request.op != DeviceOp::read && request.op != DeviceOp::write) return {};

  uint64_t memory_bytes = 0;
  for (const iovec& part : request.memory) {
    if (!is_aligned(part)) return Error(ErrorCode::invalid_argument, "unaligned request memory");
    memory_bytes += part.iov_len;
  }
  if (memory_bytes != request.length_blocks * kBlockSize) {
    return Error(ErrorCode::invalid_argument, "request memory does not match its length");
  }
  const uint64_t tuples = request.tuples.size();
  if (tuples != 0 && tuples != request.length_blocks * tuples_per_block(request.interval)) {
    return Error(ErrorCode::invalid_argument, "request tuples do not match its length");
  }
  return {};
}

void BlockDevice::finish(DeviceRequest& request, Status status, uint64_t blocks_done) {
  if (!status.ok()) ++counters_.errors;
  // Moved out first: the callback may destroy the request it is stored in.
  const auto complete = std::move(request.complete);
  complete(std::move(status), blocks_done);
}

Status BlockDevice::run(DeviceRequest& request) {
  struct Outcome {
    Mutex mutex{LockRank::leaf, "synchronous request"};
    CondVar changed;
    bool done FS_GUARDED_BY(mutex) = false;
    Status status FS_GUARDED_BY(mutex);
    uint64_t blocks_done FS_GUARDED_BY(mutex) = 0;
  };
  Outcome outcome;
  request.complete = [&outcome](Status status, uint64_t blocks_done) {
    MutexLock lock(outcome.mutex);
    outcome.status = std::move(status);
    outcome.blocks_done = blocks_done;
    outcome.done = true;
    // Under the lock: the waiter destroys `outcome` as soon as it sees `done`.
    outcome.changed.notify_one();
  };
  submit(request);
  MutexLock lock(outcome.mutex);
  while (!outcome.done) outcome.changed.wait(outcome.mutex);
  return whole(request, std::move(outcome.status), outcome.blocks_done);
}

Status BlockDevice::whole(const DeviceRequest& request, Status status, uint64_t blocks_done) {
  if (!status.ok() || blocks_done >= request.length_blocks) return status;
  return Error(ErrorCode::device_short,
               fmt::format("{} of {} blocks at block {}: only {} done", to_string(request.op),
                           request.length_blocks, request.lba.value, blocks_done));
}

Status BlockDevice::read(Lba lba, std::span<std::byte> memory) {
  const iovec part{memory.data(), memory.size()};
  DeviceRequest request;
  request.op = DeviceOp::read;
  request.lba = lba;
  request.length_blocks = memory.size() / kBlockSize;
  request.memory = {&part, 1};
  return run(request);
}

Status BlockDevice::write(Lba lba, std::span<const std::byte> memory, bool fua) {
  const iovec part{const_cast<std::byte*>(memory.data()), memory.size()};
  DeviceRequest request;
  request.op = DeviceOp::write;
  request.lba = lba;
  request.length_blocks = memory.size() / kBlockSize;
  request.memory = {&part, 1};
  request.fua = fua;
  return run(request);
}

Status BlockDevice::flush() {
  DeviceRequest request;
  request.op = DeviceOp::flush;
  return run(request);
}

Status BlockDevice::discard(BlockRange range) {
  DeviceRequest request;
  request.op = DeviceOp::discard;
  request.lba = range.start;
  request.length_blocks = range.length_blocks;
  return run(request);
}

Status BlockDevice::write_zeroes(BlockRange range) {
  DeviceRequest request;
  request.op = DeviceOp::write_zeroes;
  request.lba = range.start;
  request.length_blocks = range.length_blocks;
  return run(request);
}

void copy_from_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                      std::span<std::byte> out) {
  for_parts(memory, offset_bytes, out.size(), [&out](const std::byte* part, uint64_t length) {
    std::memcpy(out.data(), part, length);
    out = out.subspan(length);
  });
}

void copy_to_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                    std::span<const std::byte> in) {
  for_parts(memory, offset_bytes, in.size(), [&in](std::byte* part, uint64_t length) {
    std::memcpy(part, in.data(), length);
    in = in.subspan(length);
  });
}

std::vector<iovec> slice_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                                uint64_t length_bytes) {
  std::vector<iovec> parts;
  for_parts(memory, offset_bytes, length_bytes, [&parts](std::byte* part, uint64_t length) {
    parts.push_back({part, length});
  });
  return parts;
}

AlignedBuffer::AlignedBuffer(size_t length_bytes) : length_bytes_(length_bytes) {
  FS_ASSERT(length_bytes % kBlockSize == 0);
  if (length_bytes == 0) return;
  void* memory = std::aligned_alloc(kBlockSize, length_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, length_bytes);
  data_.reset(static_cast<std::byte*>(memory));
}

void AlignedBuffer::Free::operator()(std::byte* p) const {
  std::free(p);
}

}  // namespace stablefs
