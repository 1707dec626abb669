// SPDX-License-Identifier: GPL-2.0-or-later
// BlockDevice: asynchronous 4 KiB block I/O. It orders NOTHING: a flush makes durable only the
// writes that had completed before it was submitted (seeds 3); whoever needs order waits.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "integrity/tuple.h"

namespace stablefs {

enum class DeviceOp : uint8_t { read, write, flush, discard, write_zeroes };
const char* to_string(DeviceOp op);

struct DeviceRequest {
  DeviceOp op = DeviceOp::read;
  Lba lba;
  uint64_t length_blocks = 0;
  // Read and write: memory of length_blocks * 4096 bytes in total, every part 4 KiB-aligned and a
  // multiple of 4 KiB long. Memory and iovecs stay valid and, for a write, UNCHANGED until
  // `complete` was called (P1).
  std::span<const iovec> memory;
  // Write of guarded data: its tuples, for devices that verify (one per interval); else empty.
  std::span<const Tuple> tuples;
  Interval interval = Interval::block_4096;
  bool fua = false;  // write: durable when it completes
  // Called exactly once, from any thread, possibly before submit() returns, with no lock held.
  // `blocks_done` < length_blocks with an OK status is a short completion.
  std::function<void(Status status, uint64_t blocks_done)> complete;
};

struct DeviceCounters {
  std::atomic<uint64_t> reads{0}, read_blocks{0}, writes{0}, written_blocks{0}, fua_writes{0},
      flushes{0}, discards{0}, errors{0};
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  // Thread-safe. The request object must live until `complete` was called; it may be destroyed or
  // reused from within `complete`.
  virtual void submit(DeviceRequest& request) = 0;
  // As submit() for each, in one go where the backend can. The array may go when this returns.
  virtual void submit_all(std::span<DeviceRequest* const> requests);

  virtual uint64_t block_count() const = 0;
  virtual std::string name() const = 0;
  virtual bool read_only() const = 0;
  virtual bool supports_discard() const { return false; }
  // Fails every pending and later request with device_aborted (a hung device, `stablefs abort`).
  virtual void abort() {}
  // Of what reached the device; one that only watches another shows that one's.
  virtual const DeviceCounters& counters() const { return counters_; }

  // Submits and waits; `complete` is not looked at. A short completion is an error (device_short).
  // Virtual for backends that can do it on the calling thread; no lock may be held that `complete`
  // of another request needs.
  virtual Status run(DeviceRequest& request);
  Status read(Lba lba, std::span<std::byte> memory);
  Status write(Lba lba, std::span<const std::byte> memory, bool fua = false);
  Status flush();
  Status discard(BlockRange range);
  Status write_zeroes(BlockRange range);

 protected:
  void count(const DeviceRequest& request);  // called by backends for each request they accept
  // What every backend refuses: out of range, misaligned or mismatching memory, a write to a
  // read-only device. Backends call it first and complete the request with the error.
  Status validate(const DeviceRequest& request) const;
  // Calls `complete` and counts an error. The request may be gone or reused afterwards.
  void finish(DeviceRequest& request, Status status, uint64_t blocks_done);
  // For run(): what a request that ended like this comes to.
  static Status whole(const DeviceRequest& request, Status status, uint64_t blocks_done);
  DeviceCounters counters_;
};

// Copies between a request's memory and a contiguous piece of it that begins `offset_bytes` in.
void copy_from_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                      std::span<std::byte> out);
void copy_to_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                    std::span<const std::byte> in);
// The parts of `memory` that hold its bytes [offset_bytes, offset_bytes + length_bytes).
std::vector<iovec> slice_memory(std::span<const iovec> memory, uint64_t offset_bytes,
                                uint64_t length_bytes);

// Memory for device I/O: 4 KiB-aligned, length a multiple of 4 KiB, zeroed.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t length_bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), length_bytes_(std::exchange(other.length_bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    length_bytes_ = std::exchange(other.length_bytes_, 0);
    return *this;
  }
  std::span<std::byte> span() { return {data_.get(), length_bytes_}; }
  std::span<const std::byte> span() const { return {data_.get(), length_bytes_}; }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return length_bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  size_t length_bytes_ = 0;
};

}  // namespace stablefs
