// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

namespace stablefs {
namespace {

constexpr int kAttempts = 32;  // others may take the free device before us

Error loop_error(const std::string& what, int error) {
  return Error(ErrorCode::loop_device, fmt::format("{}: {}", what, std::strerror(error)));
}

Result<std::string> free_loop_device() {
  const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return loop_error("/dev/loop-control", errno);
  const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
  const int error = errno;
  ::close(control);
  if (number < 0) return loop_error("/dev/loop-control", error);
  return fmt::format("/dev/loop{}", number);
}

// 0, or errno. Not every host filesystem lets the loop driver do direct I/O; we do not need it (the
// daemon reads and writes the file itself), but others who read the device see fresher data.
int configure(int device, int image, const std::string& name, bool read_only) {
  loop_config config{};
  config.fd = static_cast<uint32_t>(image);
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), name.c_str(), LO_NAME_SIZE - 1);
  config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  if (::ioctl(device, LOOP_CONFIGURE, &config) == 0) return 0;
  if (errno != EINVAL) return errno;
  config.info.lo_flags &= ~static_cast<uint32_t>(LO_FLAGS_DIRECT_IO);
  return ::ioctl(device, LOOP_CONFIGURE, &config) == 0 ? 0 : errno;
}

// What somebody once said of the device (blockdev --setro) outlives what it was bound to.
void allow_writing(int device) {
  const int read_only = 0;
  ::ioctl(device, BLKROSET, &read_only);
}

Result<LoopDevice> attach(int image, const std::string& name, bool read_only) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    LoopDevice loop;
    loop.path = FS_TRY(free_loop_device());
    loop.descriptor = ::open(loop.path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    if (loop.descriptor < 0) return loop_error(loop.path, errno);
    const int error = configure(loop.descriptor, image, name, read_only);
    if (error == 0) {
      if (!read_only) allow_writing(loop.descriptor);
      return loop;
    }
    ::close(loop.descriptor);
    if (error != EBUSY) return loop_error(loop.path, error);
  }
  return loop_error(name, EBUSY);
}

bool same_inode(const std::string& loop, const struct stat& image) {
  const int device = ::open(loop.c_str(), O_RDONLY | O_CLOEXEC);
  if (device < 0) return false;
  loop_info64 info{};
  const bool bound = ::ioctl(device, LOOP_GET_STATUS64, &info) == 0;
  ::close(device);
  return bound && info.lo_inode == image.st_ino && info.lo_device == image.st_dev;
}

}  // namespace

Result<LoopDevice> attach_loop_device(const std::string& image, bool read_only) {
  const int file = ::open(image.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (file < 0) return loop_error(image, errno);
  const Result<LoopDevice> loop = attach(file, image, read_only);
  ::close(file);
  return loop;
}

std::vector<std::string> loop_devices_of(const std::string& image) {
  struct stat info {};
  if (::stat(image.c_str(), &info) != 0) return {};
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("loop") || !std::filesystem::exists(entry.path() / "loop", error)) {
      continue;
    }
    const std::string device = "/dev/" + name;
    if (backing_file(device) == image || same_inode(device, info)) found.push_back(name);
  }
  return found;
}

std::string backing_file(const std::string& device) {
  const std::string name = std::filesystem::path(device).filename();
  std::ifstream file("/sys/block/" + name + "/loop/backing_file");
  std::string path;
  std::getline(file, path);
  return path;
}

dev_t device_number(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISBLK(info.st_mode)) return 0;
  return info.st_rdev;
}

}  // namespace stablefs
