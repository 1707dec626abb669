// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/memory_device.h"

#include <utility>

#include "base/assert.h"

namespace stablefs {
namespace {

std::vector<MemoryImage::PageRef> pages_of(const DeviceRequest& request) {
  std::vector<MemoryImage::PageRef> pages;
  pages.reserve(request.length_blocks);
  for (const iovec& part : request.memory) {
    std::span<const std::byte> bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
    for (; !bytes.empty(); bytes = bytes.subspan(kBlockSize)) {
      pages.push_back(make_page(bytes.first(kBlockSize)));
    }
  }
  return pages;
}

}  // namespace

MemoryDevice::MemoryDevice(uint64_t block_count, MemoryDeviceOptions options)
    : MemoryDevice(MemoryImage(block_count), options) {}

MemoryDevice::MemoryDevice(MemoryImage contents, MemoryDeviceOptions options)
    : options_(options),
      block_count_(contents.block_count()),
      cache_(std::move(contents)),
      prng_(options.seed) {
  if (options_.asynchronous) worker_ = Thread("memory device", [this] { work(); });
}

MemoryDevice::~MemoryDevice() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) worker_.join();
}

void MemoryDevice::submit(DeviceRequest& request) {
  Status status = validate(request);
  if (status.ok()) {
    count(request);
    MutexLock lock(mutex_);
    const uint64_t flush_up_to = cache_.last_sequence();
    if (aborted_) {
      status = ErrorCode::device_aborted;
    } else if (options_.asynchronous) {
      pending_.push_back({&request, flush_up_to});
      changed_.notify_one();
      return;
    } else {
      status = execute(request, flush_up_to);
    }
  }
  const uint64_t blocks_done = status.ok() ? request.length_blocks : 0;
  finish(request, std::move(status), blocks_done);
}

void MemoryDevice::work() {
  MutexLock lock(mutex_);
  while (true) {
    while (pending_.empty() && !stopping_) changed_.wait(mutex_);
    if (pending_.empty()) return;
    const size_t index = prng_.below(pending_.size());
    const Pending chosen = pending_[index];
    pending_[index] = pending_.back();
    pending_.pop_back();
    Status status = execute(*chosen.request, chosen.flush_up_to);
    lock.unlock();
    const uint64_t blocks_done = status.ok() ? chosen.request->length_blocks : 0;
    finish(*chosen.request, std::move(status), blocks_done);
    lock.lock();
  }
}

Status MemoryDevice::execute(const DeviceRequest& request, uint64_t flush_up_to) {
  const bool durable = request.fua || !options_.volatile_cache;
  switch (request.op) {
    case DeviceOp::read:
      execute_read(request);
      break;
    case DeviceOp::write:
      cache_.write(request.lba, pages_of(request), durable);
      break;
    case DeviceOp::write_zeroes:
      cache_.zero(request.op, {request.lba, request.length_blocks}, durable);
      break;
    case DeviceOp::flush:
      cache_.flush(flush_up_to);
      break;
    case DeviceOp::discard:
      if (!options_.supports_discard) {
        return Error(ErrorCode::device_discard, "not supported by this device");
      }
      execute_discard(request);
      break;
  }
  return {};
}

void MemoryDevice::execute_discard(const DeviceRequest& request) {
  const BlockRange range{request.lba, request.length_blocks};
  if (options_.discard_zeroes) {
    cache_.zero(DeviceOp::discard, range, false);
  } else {
    cache_.scramble(range, prng_);
  }
  if (!options_.volatile_cache) cache_.flush(cache_.last_sequence());
}

void MemoryDevice::execute_read(const DeviceRequest& request) {
  const MemoryImage::Page zeros{};
  for (uint64_t i = 0; i < request.length_blocks; ++i) {
    const auto page = cache_.current().page(request.lba + i);
    copy_to_memory(request.memory, i * kBlockSize, page ? *page : zeros);
  }
}

void MemoryDevice::abort() {
  std::vector<Pending> failed;
  {
    MutexLock lock(mutex_);
    aborted_ = true;
    failed.swap(pending_);
  }
  for (const Pending& pending : failed) {
    finish(*pending.request, ErrorCode::device_aborted, 0);
  }
}

MemoryImage MemoryDevice::image() const {
  MutexLock lock(mutex_);
  return cache_.current();
}

MemoryImage MemoryDevice::durable_image() const {
  MutexLock lock(mutex_);
  return cache_.durable();
}

VolatileCache MemoryDevice::crash_state() const {
  MutexLock lock(mutex_);
  VolatileCache state = cache_;
  for (const Pending& pending : pending_) {
    const DeviceRequest& request = *pending.request;
    if (request.op == DeviceOp::write) state.write(request.lba, pages_of(request), false);
    if (request.op == DeviceOp::write_zeroes || request.op == DeviceOp::discard) {
      state.zero(request.op, {request.lba, request.length_blocks}, false);
    }
  }
  return state;
}

MemoryImage MemoryDevice::crash_image(CrashPolicy policy, Prng& prng) const {
  return crash_state().crash_image(policy, prng);
}

void MemoryDevice::crash(CrashPolicy policy, Prng& prng) {
  MemoryImage left = crash_image(policy, prng);
  std::vector<Pending> failed;
  {
    MutexLock lock(mutex_);
    cache_ = VolatileCache(std::move(left));
    failed.swap(pending_);
  }
  for (const Pending& pending : failed) {
    finish(*pending.request, ErrorCode::device_aborted, 0);
  }
}

}  // namespace stablefs
