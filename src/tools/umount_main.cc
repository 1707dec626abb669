// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs umount DIR: returns when everything is on the device and the daemon has ended, for every
// kind of mount (umount(8) waits on block devices only).
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "fuse/kernel_mount.h"
#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"
#include "tools/mount_table.h"

namespace stablefs {
namespace {

// Layout of struct pidfd_info (Linux 6.13) and PIDFD_INFO_EXIT (6.15), newer than the headers.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr uint64_t kPidfdInfoExit = 1u << 3;
constexpr int kReapWaitMs = 200;
constexpr int kStillMountedMs = 10'000;
constexpr int kMaxInterruptedSyncs = 100;
const unsigned long kPidfdGetInfo = _IOWR(0xFF, 11, PidfdInfo);

// Whether the daemon failed is known only where the kernel tells others than the parent; it is in
// the system log anyway.
Status exit_status(int daemon) {
  // The status can be asked for when the parent has reaped it, which POLLHUP tells.
  pollfd event{daemon, 0, 0};
  ::poll(&event, 1, kReapWaitMs);
  PidfdInfo info{};
  info.mask = kPidfdInfoExit;
  const bool known = ::ioctl(daemon, kPidfdGetInfo, &info) == 0 && (info.mask & kPidfdInfoExit);
  if (known && info.exit_code != 0) {
    return Error(ErrorCode::writeback_failed,
                 "the daemon could not write everything; see the system log");
  }
  return {};
}

// Waits for the daemon's end. On a block device umount(2) has waited for it to be done, so a daemon
// that stays has the filesystem mounted elsewhere still, in another mount namespace. Plain fuse has
// no such limit: there, the daemon begins to write out what is left only now.
Status wait_for_end(int daemon, bool block_device, const std::string& directory) {
  const int limit_ms = block_device ? kStillMountedMs : -1;
  pollfd event{daemon, POLLIN, 0};
  int ready;
  while ((ready = ::poll(&event, 1, limit_ms)) < 0) {
    if (errno != EINTR) return Error(ErrorCode::unmount_failed, std::strerror(errno));
  }
  if (ready > 0) return exit_status(daemon);
  fmt::print(stderr, "{} is unmounted, but the filesystem is still in use elsewhere\n", directory);
  return {};
}

// Writes that could not be kept so far; nothing when the daemon does not answer.
std::optional<uint64_t> failed_writes(const std::string& directory) {
  const Result<std::string> stats = read_control(directory, kControlStats);
  if (!stats.ok()) return std::nullopt;
  const auto counters = nlohmann::json::parse(*stats, nullptr, false);
  if (!counters.is_object()) return std::nullopt;
  return counters.value("data.write_errors", uint64_t{0}) +
         counters.value("ordered.failed", uint64_t{0});
}

// The kernel keeps the first error of anything it wrote back and hands it, once, to whoever syncs
// the whole filesystem next. EINTR is one of these, never ours: the SETATTR of a caller killed
// in rename(2) or link(2) (seen with filemap_set_wb_err, Linux 6.18). The sync itself was done.
int sync_all(int descriptor) {
  for (int attempt = 0; attempt < kMaxInterruptedSyncs; ++attempt) {
    if (::syncfs(descriptor) == 0) return 0;
    if (errno != EINTR) return errno;
  }
  return EINTR;
}

// Blocks until everything is on the device; means nothing on plain fuse. What the kernel has kept
// from before is not ours to report: a write that found no space has been told to its file, and the
// EINTR above comes back as EIO when the same file is synced again. Of data that is lost the daemon
// tells at every sync, and of writes that fail now the counters.
Status sync_filesystem(const std::string& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return {};
  const std::optional<uint64_t> failed_before = failed_writes(directory);
  int error = sync_all(descriptor);
  const bool from_before = error != 0 && failed_before && failed_before == failed_writes(directory);
  if (from_before) error = sync_all(descriptor);
  ::close(descriptor);
  if (error == 0) return {};
  return Error(ErrorCode::writeback_failed, std::strerror(error));
}

Status unmount(const std::string& directory) {
  if (::geteuid() == 0) return unmount_directory(directory, false);
  return unmount_by_helper(directory, false);
}

bool still_mounted(dev_t device) {
  for (const MountEntry& entry : read_mount_table()) {
    if (entry.device == device) return true;
  }
  return false;
}

Status unmount_and_wait(const std::string& directory) {
  const auto entry = mounted_at(directory);
  if (!entry) return Error(ErrorCode::unmount_failed, directory + ": not mounted");
  if (!entry->stablefs()) {
    return Error(ErrorCode::unmount_failed, directory + ": not a stablefs filesystem");
  }
  // Nothing to wait for when the daemon is gone, or serves another place where this is mounted too.
  const Result<DaemonInfo> info = answers(*entry) ? read_info(directory) : ErrorCode::not_found;
  const int daemon =
      info.ok() && info->pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, info->pid, 0)) : -1;
  // Before, because whoever still uses it elsewhere keeps umount(2) from waiting.
  const Status synced = daemon >= 0 ? sync_filesystem(directory) : Status();
  Status status = unmount(directory);
  if (status.ok() && daemon >= 0 && !still_mounted(entry->device)) {
    status = wait_for_end(daemon, entry->block_device(), directory);
  }
  if (daemon >= 0) ::close(daemon);
  return status.ok() ? synced : status;
}

}  // namespace

int umount_main(int argc, char** argv) {
  CLI::App app(
      "Unmounts the stablefs filesystem at DIR. When it returns, everything is on the device and "
      "the daemon has ended.");
  std::string directory;
  app.add_option("DIR", directory, "where it is mounted")->required();
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  // The directory of a dead mount cannot be resolved; it is taken as it is then.
  if (char* const resolved = ::realpath(directory.c_str(), nullptr); resolved != nullptr) {
    directory = resolved;
    ::free(resolved);
  }
  const Status status = unmount_and_wait(directory);
  return status.ok() ? 0 : fail(argv[0], status.error());
}

}  // namespace stablefs
