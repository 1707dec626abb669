// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/open.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include "device/source_file.h"
#include "device/uring_device.h"

namespace stablefs {
namespace {

constexpr uint32_t kExclusiveRetryMs = 20;

Error open_error(const std::string& path, const std::string& reason) {
  return Error(ErrorCode::device_open, path + ": " + reason);
}

Error open_errno(const std::string& path, int errno_value) {
  return open_error(path, std::system_category().message(errno_value));
}

Result<std::string> canonical(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return open_errno(path, errno);
  std::string result = resolved;
  free(resolved);
  return result;
}

// Looked at before opening: opening a FIFO or a tape already does something.
Result<struct stat> inspect(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return open_errno(path, errno);
  if (!S_ISBLK(info.st_mode) && !S_ISREG(info.st_mode)) {
    return open_error(path, "neither a block device nor a regular file");
  }
  return info;
}

// Calls attempt() until it stops returning "busy", for at most `wait_ms`.
template <class Attempt>
Status retry_while_busy(uint32_t wait_ms, Attempt attempt) {
  for (uint32_t waited_ms = 0;; waited_ms += kExclusiveRetryMs) {
    Status status = attempt();
    const bool busy = !status.ok() && status.error().code() == ErrorCode::device_busy;
    if (!busy || waited_ms >= wait_ms) return status;
    const timespec pause{0, kExclusiveRetryMs * 1'000'000};
    nanosleep(&pause, nullptr);
  }
}

Result<Descriptor> claim_block_device(const std::string& path, const OpenDeviceOptions& options) {
  Descriptor claim;
  const int access = options.read_only ? O_RDONLY : O_RDWR;
  FS_TRY(retry_while_busy(options.exclusive_wait_ms, [&]() -> Status {
    claim = Descriptor(open(path.c_str(), access | O_EXCL | O_CLOEXEC | O_NOCTTY));
    if (claim.valid()) return {};
    if (errno == EBUSY) return Error(ErrorCode::device_busy, path);
    return open_errno(path, errno);
  }));
  return claim;
}

// An OFD lock goes with the open file, not the process: it survives fork() and is not lost when
// somebody else in the process closes the same file.
Status lock_image(int fd, const std::string& path, const OpenDeviceOptions& options,
                  uint64_t offset_bytes = 0, uint64_t length_bytes = 0) {
  return retry_while_busy(options.exclusive_wait_ms, [&]() -> Status {
    struct flock lock {};
    lock.l_type = options.read_only ? F_RDLCK : F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(offset_bytes);
    lock.l_len = static_cast<off_t>(length_bytes);  // 0: to the end, wherever that will be
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
    if (errno == EAGAIN || errno == EACCES) return Error(ErrorCode::device_busy, path);
    return open_errno(path, errno);
  });
}

// First line of a file of sysfs; empty when there is none.
std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

uint64_t read_bytes_of_sectors(const std::string& path) {
  constexpr uint64_t kSysfsSectorBytes = 512;
  return std::strtoull(read_line(path).c_str(), nullptr, 10) * kSysfsSectorBytes;
}

// Each loop device of an image can be claimed by somebody else, so who has one (or a partition of
// it) also holds the lock on its part of the image. Nothing when the image cannot be reached: it
// was deleted, or belongs to another mount namespace.
Result<Descriptor> lock_image_behind(const SourceFile& source, dev_t device,
                                     const OpenDeviceOptions& options) {
  const std::string base = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  const std::string partition_start = read_line(base + "/partition").empty() ? "" : base + "/start";
  const std::string loop = (partition_start.empty() ? base : base + "/..") + "/loop";
  const std::string path = read_line(loop + "/backing_file");
  if (path.empty()) return Descriptor();
  Descriptor image(open(path.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!image.valid()) return Descriptor();
  uint64_t offset_bytes = std::strtoull(read_line(loop + "/offset").c_str(), nullptr, 10);
  if (!partition_start.empty()) offset_bytes += read_bytes_of_sectors(partition_start);
  FS_TRY(lock_image(image.get(), source.path + ": so is its image " + path, options, offset_bytes,
                    source.block_count * kBlockSize));
  return image;
}

bool direct_io_works(int fd, uint64_t size_bytes) {
  AlignedBuffer probe(kBlockSize);
  if (size_bytes < kBlockSize) return true;
  return pread(fd, probe.data(), probe.size(), 0) >= 0 || errno != EINVAL;
}

// O_DIRECT first. A host filesystem refuses it at open, or at the first transfer.
Result<Descriptor> open_for_io(const std::string& path, const struct stat& expected,
                               const OpenDeviceOptions& options, Logger& logger) {
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
  Descriptor io(open(path.c_str(), flags | O_DIRECT));
  if (!io.valid() && errno != EINVAL) return open_errno(path, errno);
  if (io.valid() && !direct_io_works(io.get(), static_cast<uint64_t>(expected.st_size))) io.reset();
  if (!io.valid()) {
    logger.write(LogLevel::warning,
                 path + ": direct I/O is refused here; using buffered I/O with fdatasync");
    io = Descriptor(open(path.c_str(), flags));
    if (!io.valid()) return open_errno(path, errno);
  }
  struct stat info {};
  if (fstat(io.get(), &info) != 0) return open_errno(path, errno);
  const bool same = info.st_dev == expected.st_dev && info.st_ino == expected.st_ino &&
                    info.st_rdev == expected.st_rdev && info.st_mode == expected.st_mode;
  if (!same) return open_error(path, "was replaced while it was opened");
  return io;
}

Result<uint64_t> size_of(const SourceFile& source) {
  uint64_t size_bytes = 0;
  if (source.block_device) {
    int sector_bytes = 0;
    if (ioctl(source.io.get(), BLKGETSIZE64, &size_bytes) != 0 ||
        ioctl(source.io.get(), BLKSSZGET, &sector_bytes) != 0) {
      return open_errno(source.path, errno);
    }
    if (sector_bytes <= 0 || kBlockSize % static_cast<uint32_t>(sector_bytes) != 0) {
      return open_error(source.path, fmt::format("sectors of {} bytes do not divide {}",
                                                 sector_bytes, kBlockSize));
    }
  } else {
    struct stat info {};
    if (fstat(source.io.get(), &info) != 0) return open_errno(source.path, errno);
    size_bytes = static_cast<uint64_t>(info.st_size);
  }
  if (size_bytes < kBlockSize) return Error(ErrorCode::device_too_small, source.path);
  return size_bytes;
}

// sysfs knows without trying; a partition has no queue of its own, its disk has.
bool block_device_discards(dev_t device) {
  const std::string base = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
  for (const char* queue : {"/queue/discard_max_bytes", "/../queue/discard_max_bytes"}) {
    std::ifstream file(base + queue);
    uint64_t bytes = 0;
    if (file >> bytes) return bytes > 0;
  }
  return false;
}

}  // namespace

Result<std::unique_ptr<SourceDevice>> open_source(const std::string& path,
                                                  const OpenDeviceOptions& options,
                                                  Logger& logger) {
  SourceFile source;
  source.path = FS_TRY(canonical(path));
  const struct stat info = FS_TRY(inspect(source.path));
  source.block_device = S_ISBLK(info.st_mode);
  source.read_only = options.read_only;
  if (source.block_device && options.exclusive) {
    source.claim = FS_TRY(claim_block_device(source.path, options));
  }
  source.io = FS_TRY(open_for_io(source.path, info, options, logger));
  if (!source.block_device && options.exclusive) {
    FS_TRY(lock_image(source.io.get(), source.path, options));
  }
  source.block_count = FS_TRY(size_of(source)) / kBlockSize;
  if (source.block_device && options.exclusive) {
    source.image = FS_TRY(lock_image_behind(source, info.st_rdev, options));
  }
  source.discard =
      !options.read_only && (!source.block_device || block_device_discards(info.st_rdev));
  return std::unique_ptr<SourceDevice>(
      std::make_unique<UringDevice>(std::move(source), true, logger));
}

}  // namespace stablefs
