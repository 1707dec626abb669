// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/io_recording.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace stablefs {
namespace {

constexpr uint64_t kCopyBlocks = 256;  // read at a time

Error log_error(const std::string& path, const std::string& why) {
  return Error(ErrorCode::bad_option, fmt::format("iolog={}: {}", path, why));
}

bool is_zeros(std::span<const std::byte> block) {
  return block[0] == std::byte{0} && std::memcmp(&block[0], &block[1], block.size() - 1) == 0;
}

void append_base(IoLogSink& log, Lba lba, std::span<const std::byte> contents) {
  IoEvent event;
  event.kind = IoEventKind::base;
  event.op = DeviceOp::write;
  event.lba = lba;
  event.length_blocks = contents.size() / kBlockSize;
  event.payload.assign(contents.begin(), contents.end());
  log.append(std::move(event));
}

// One event for each run of blocks that are not zeros.
void append_written(IoLogSink& log, Lba lba, std::span<const std::byte> contents) {
  const auto block_is_zeros = [&](size_t offset_bytes) {
    return is_zeros(contents.subspan(offset_bytes, kBlockSize));
  };
  for (size_t offset_bytes = 0; offset_bytes < contents.size();) {
    size_t end = offset_bytes;
    while (end < contents.size() && !block_is_zeros(end)) end += kBlockSize;
    if (end > offset_bytes) {
      append_base(log, lba + offset_bytes / kBlockSize,
                  contents.subspan(offset_bytes, end - offset_bytes));
    }
    offset_bytes = end + kBlockSize;
  }
}

// The first run of blocks at or behind `from` that may hold something: an image tells where its
// holes are.
BlockRange next_written(const SourceDevice& source, Lba from) {
  const uint64_t end_blocks = source.block_count();
  uint64_t to = std::min(end_blocks, from.value + kCopyBlocks);
  if (source.is_block_device()) return {from, to - from.value};
  const off_t data =
      ::lseek(source.descriptor(), static_cast<off_t>(from.value * kBlockSize), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return {Lba(end_blocks), 0};
    return {from, to - from.value};  // the host does not know about holes
  }
  const Lba start(std::min(end_blocks, static_cast<uint64_t>(data) / kBlockSize));
  to = std::min(end_blocks, start.value + kCopyBlocks);
  return {start, to - start.value};
}

Status copy_base(SourceDevice& source, FileIoLog& log) {
  AlignedBuffer buffer(kCopyBlocks * kBlockSize);
  for (Lba lba(0); lba.value < source.block_count();) {
    const BlockRange range = next_written(source, lba);
    const auto contents = buffer.span().first(range.length_blocks * kBlockSize);
    if (!contents.empty()) FS_TRY(source.read(range.start, contents));
    append_written(log, range.start, contents);
    FS_TRY(log.status());
    lba = range.end();
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<IoRecording>> IoRecording::start(const std::string& path,
                                                        SourceDevice& source) {
  // It will hold what is in the files.
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return log_error(path, std::strerror(errno));
  std::unique_ptr<IoRecording> recording(new IoRecording(path, descriptor, source));
  if (const Status status = copy_base(source, recording->log_); !status.ok()) {
    recording->remove_file();
    return log_error(path, status.error().message());
  }
  return recording;
}

void IoRecording::remove_file() {
  ::unlink(path_.c_str());
}

Result<std::string> resolve_iolog_path(const std::string& file) {
  const size_t slash = file.rfind('/');
  const std::string directory =
      slash == std::string::npos ? "." : file.substr(0, std::max<size_t>(slash, 1));
  const std::string name = slash == std::string::npos ? file : file.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return log_error(file, "names no file");
  char* const resolved = ::realpath(directory.c_str(), nullptr);
  if (resolved == nullptr) return log_error(file, std::strerror(errno));
  std::string path = resolved;
  ::free(resolved);
  path += (path == "/" ? "" : "/") + name;
  if (::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
    return log_error(file, "exists already");
  }
  return path;
}

bool lies_below(const std::string& path, const std::string& directory) {
  if (directory == "/" || path == directory) return true;
  return path.starts_with(directory + "/");
}

}  // namespace stablefs
