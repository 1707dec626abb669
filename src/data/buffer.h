// SPDX-License-Identifier: GPL-2.0-or-later
// Reference-counted, 4 KiB-aligned memory and slices of it. A buffer under device I/O is sealed:
// nobody gets a pointer to write to it before the I/O, its retries and copies are over (P1).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/assert.h"
#include "base/ids.h"
#include "device/block_device.h"

namespace stablefs {

class Buffer {
 public:
  explicit Buffer(size_t length_bytes) : memory_(length_bytes) {}
  size_t size() const { return memory_.size(); }

 private:
  friend class BufferSlice;
  AlignedBuffer memory_;
  std::atomic<uint32_t> seals_{0};
};

// Part of a shared Buffer; copying shares. Not thread-safe itself.
class BufferSlice {
 public:
  BufferSlice() = default;
  explicit BufferSlice(size_t length_bytes)
      : buffer_(std::make_shared<Buffer>(length_bytes)), length_(length_bytes) {}
  BufferSlice(std::shared_ptr<Buffer> buffer, size_t offset, size_t length)
      : buffer_(std::move(buffer)), offset_(offset), length_(length) {
    FS_ASSERT(offset_ + length_ <= buffer_->size());
  }

  explicit operator bool() const { return buffer_ != nullptr; }
  size_t size() const { return length_; }
  std::span<const std::byte> bytes() const {
    return buffer_->memory_.span().subspan(offset_, length_);
  }
  // The only way to memory that may be written.
  std::span<std::byte> writable() {
    FS_ASSERT(!sealed());
    return buffer_->memory_.span().subspan(offset_, length_);
  }
  // For StablePolicy::off only: what this project exists to forbid.
  std::span<std::byte> writable_although_sealed() {
    return buffer_->memory_.span().subspan(offset_, length_);
  }
  BufferSlice slice(size_t offset, size_t length) const {
    FS_ASSERT(offset + length <= length_);
    return BufferSlice(buffer_, offset_ + offset, length);
  }
  bool page_aligned() const {
    return reinterpret_cast<uintptr_t>(bytes().data()) % kBlockSize == 0;
  }
  bool sealed() const { return buffer_->seals_.load(std::memory_order_acquire) != 0; }
  void seal() { buffer_->seals_.fetch_add(1, std::memory_order_acq_rel); }
  void unseal() {
    uint32_t before = buffer_->seals_.fetch_sub(1, std::memory_order_acq_rel);
    FS_ASSERT(before != 0);
  }
  // Bytes of the whole buffer this slice keeps alive.
  size_t pinned_bytes() const { return buffer_ ? buffer_->size() : 0; }

 private:
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;
  size_t length_ = 0;
};

}  // namespace stablefs
