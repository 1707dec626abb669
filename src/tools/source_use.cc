// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/source_use.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "tools/loop_device.h"

namespace stablefs {
namespace {

constexpr uint32_t kLoopPollMs = 20;

bool goes_away_by_itself(const std::string& loop) {
  std::ifstream file("/sys/block/" + loop + "/loop/autoclear");
  return file.get() == '1';
}

// Claimed by something that may write to it. A dead daemon's superblock goes on claiming its loop
// device while files are open or another mount namespace has it; the lock on the image tells
// whether such a daemon lives.
bool claimed(const std::string& device) {
  const dev_t number = device_number(device);
  const std::string bdi = fmt::format("/sys/class/bdi/{}:{}-fuseblk", major(number), minor(number));
  if (::access(bdi.c_str(), F_OK) == 0) return false;
  const int descriptor = ::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor < 0 && errno == EBUSY;
}

// By a daemon that serves the image, or anybody else who takes care.
bool locked(const std::string& image) {
  const int descriptor = ::open(image.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return false;
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  const bool known = ::fcntl(descriptor, F_OFD_GETLK, &lock) == 0;
  ::close(descriptor);
  return known && lock.l_type != F_UNLCK;
}

}  // namespace

std::vector<MountEntry> mounts_of(const std::string& source) {
  std::vector<dev_t> devices;
  if (const dev_t device = device_number(source); device != 0) devices.push_back(device);
  for (const std::string& loop : loop_devices_of(source)) {
    if (const dev_t device = device_number("/dev/" + loop); device != 0) devices.push_back(device);
  }
  std::vector<MountEntry> found;
  for (MountEntry& entry : read_mount_table()) {
    const bool by_device = std::ranges::find(devices, entry.device) != devices.end();
    const bool by_name = entry.type == "fuse.stablefs" && entry.source == source;
    if (by_device || by_name) found.push_back(std::move(entry));
  }
  return found;
}

std::optional<std::string> in_use(const std::string& source) {
  for (const MountEntry& entry : mounts_of(source)) {
    if (!entry.stablefs() || answers(entry)) {
      return fmt::format("{} is mounted on {}", source, entry.directory);
    }
  }
  for (const std::string& loop : loop_devices_of(source)) {
    if (claimed("/dev/" + loop)) return fmt::format("{} is in use through /dev/{}", source, loop);
  }
  const std::string image = backing_file(source);
  if (!image.empty() && locked(image)) {
    return fmt::format("{} is in use: so is its image {}", source, image);
  }
  return std::nullopt;
}

std::optional<std::string> attached_loop_device(const std::string& image) {
  for (uint32_t waited_ms = 0;; waited_ms += kLoopPollMs) {
    const std::vector<std::string> loops = loop_devices_of(image);
    if (loops.empty()) return std::nullopt;
    const bool temporary = std::ranges::all_of(loops, goes_away_by_itself);
    if (!temporary || waited_ms >= kPredecessorWaitMs) return "/dev/" + loops.front();
    ::usleep(kLoopPollMs * 1000);
  }
}

bool write_protected(const std::string& device) {
  const dev_t number = device_number(device);
  if (number == 0) return false;
  std::ifstream file(fmt::format("/sys/dev/block/{}:{}/ro", major(number), minor(number)));
  return file.get() == '1';
}

}  // namespace stablefs
