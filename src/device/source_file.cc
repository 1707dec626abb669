// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/source_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <system_error>

namespace stablefs {
namespace {

// Between two of these an abort is noticed.
constexpr uint64_t kRangeStepBytes = uint64_t{1} << 30;
constexpr int kMaxTransientRetries = 100;

ErrorCode code_of(DeviceOp op) {
  switch (op) {
    case DeviceOp::read:
      return ErrorCode::device_read;
    case DeviceOp::write:
    case DeviceOp::write_zeroes:
      return ErrorCode::device_write;
    case DeviceOp::flush:
      return ErrorCode::device_flush;
    case DeviceOp::discard:
      return ErrorCode::device_discard;
  }
  return ErrorCode::device_read;
}

ssize_t transfer_once(int fd, const DeviceRequest& request, uint64_t bytes_done) {
  const uint64_t length_bytes = request.length_blocks * kBlockSize;
  const auto parts = slice_memory(request.memory, bytes_done, length_bytes - bytes_done);
  const int count = static_cast<int>(std::min<size_t>(parts.size(), IOV_MAX));
  const auto offset = static_cast<off_t>(request.lba.value * kBlockSize + bytes_done);
  if (request.op == DeviceOp::read) return preadv(fd, parts.data(), count, offset);
  return pwritev2(fd, parts.data(), count, offset, request.fua ? RWF_DSYNC : 0);
}

TransferOutcome transfer(int fd, const DeviceRequest& request, const std::atomic<bool>& aborted) {
  const uint64_t length_bytes = request.length_blocks * kBlockSize;
  uint64_t bytes_done = 0;
  int retries = 0;
  while (bytes_done < length_bytes) {
    if (aborted) return {ErrorCode::device_aborted, bytes_done / kBlockSize};
    const ssize_t done = transfer_once(fd, request, bytes_done);
    if (done == 0) break;  // no progress possible: reported as a short completion
    if (done > 0) {
      bytes_done += static_cast<uint64_t>(done);
      continue;
    }
    if ((errno == EINTR || errno == EAGAIN) && ++retries <= kMaxTransientRetries) continue;
    return {device_error(request, errno), bytes_done / kBlockSize};
  }
  return {Status(), bytes_done / kBlockSize};
}

int punch(const SourceFile& source, uint64_t offset_bytes, uint64_t length_bytes) {
  if (source.block_device) {
    uint64_t range[2] = {offset_bytes, length_bytes};
    return ioctl(source.io.get(), BLKDISCARD, range);
  }
  return fallocate(source.io.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes));
}

int write_plain_zeroes(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
  const AlignedBuffer zeroes(std::min<uint64_t>(length_bytes, 256 * kBlockSize));
  while (length_bytes > 0) {
    const size_t step = std::min<uint64_t>(length_bytes, zeroes.size());
    const ssize_t done = pwrite(fd, zeroes.data(), step, static_cast<off_t>(offset_bytes));
    if (done < 0 && errno == EINTR) continue;
    if (done == 0) errno = EIO;
    if (done <= 0) return -1;
    offset_bytes += static_cast<uint64_t>(done);
    length_bytes -= static_cast<uint64_t>(done);
  }
  return 0;
}

int zero(const SourceFile& source, uint64_t offset_bytes, uint64_t length_bytes) {
  if (source.block_device) {  // the kernel writes zeros itself where the device cannot
    uint64_t range[2] = {offset_bytes, length_bytes};
    return ioctl(source.io.get(), BLKZEROOUT, range);
  }
  if (fallocate(source.io.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes)) == 0) {
    return 0;
  }
  if (errno != EOPNOTSUPP) return -1;
  return write_plain_zeroes(source.io.get(), offset_bytes, length_bytes);
}

TransferOutcome change_range(const SourceFile& source, const DeviceRequest& request,
                             const std::atomic<bool>& aborted) {
  uint64_t offset_bytes = request.lba.value * kBlockSize;
  const uint64_t end_bytes = offset_bytes + request.length_blocks * kBlockSize;
  while (offset_bytes < end_bytes) {
    const uint64_t blocks_done = offset_bytes / kBlockSize - request.lba.value;
    if (aborted) return {ErrorCode::device_aborted, blocks_done};
    const uint64_t step_bytes = std::min(end_bytes - offset_bytes, kRangeStepBytes);
    const int failed = request.op == DeviceOp::discard ? punch(source, offset_bytes, step_bytes)
                                                       : zero(source, offset_bytes, step_bytes);
    if (failed != 0 && errno == EINTR) continue;
    if (failed != 0) return {device_error(request, errno), blocks_done};
    offset_bytes += step_bytes;
  }
  if (request.fua && fdatasync(source.io.get()) != 0) return {device_error(request, errno), 0};
  return {Status(), request.length_blocks};
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this == &other) return *this;
  reset();
  fd_ = std::exchange(other.fd_, -1);
  return *this;
}

void Descriptor::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Error device_error(const DeviceRequest& request, int errno_value) {
  const std::string reason = std::system_category().message(errno_value);
  if (request.op == DeviceOp::flush) return Error(ErrorCode::device_flush, reason);
  return Error(code_of(request.op),
               fmt::format("{} of {} blocks at block {}: {}", to_string(request.op),
                           request.length_blocks, request.lba.value, reason));
}

TransferOutcome execute(const SourceFile& source, const DeviceRequest& request,
                        const std::atomic<bool>& aborted) {
  if (aborted) return {ErrorCode::device_aborted, 0};
  switch (request.op) {
    case DeviceOp::read:
    case DeviceOp::write:
      return transfer(source.io.get(), request, aborted);
    case DeviceOp::discard:
    case DeviceOp::write_zeroes:
      return change_range(source, request, aborted);
    case DeviceOp::flush:
      break;
  }
  // A failed flush is never tried again: the kernel has forgotten the error the second time.
  if (fdatasync(source.io.get()) != 0) return {device_error(request, errno), 0};
  return {Status(), 0};
}

}  // namespace stablefs
