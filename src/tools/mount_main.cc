// SPDX-License-Identifier: GPL-2.0-or-later
// mount.stablefs SOURCE DIR [-o OPTIONS] [-f]: also called by mount(8).
#include <errno.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "fuse/kernel_mount.h"
#include "stablefs/control.h"
#include "tools/background.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/io_recording.h"
#include "tools/loop_device.h"
#include "tools/mains.h"
#include "tools/mount_daemon.h"
#include "tools/mount_lock.h"
#include "tools/mount_options.h"
#include "tools/mount_table.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

constexpr int kExitMountFailed = 32;  // mount(8)

Result<std::string> canonical(const std::string& path) {
  char* const resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) {
    return Error(ErrorCode::mount_failed, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  std::string out(resolved);
  ::free(resolved);
  return out;
}

Result<std::string> canonical_directory(const std::string& path) {
  std::string resolved = FS_TRY(canonical(path));
  struct stat info {};
  if (::stat(resolved.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Error(ErrorCode::mount_failed, path + ": not a directory");
  }
  return resolved;
}

// Flags of a mounted filesystem as mount(2) wants them, to keep those a remount does not mention.
unsigned long current_flags(const std::string& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0) return 0;
  constexpr std::pair<unsigned long, unsigned long> kFlags[] = {
      {ST_RDONLY, MS_RDONLY},         {ST_NOSUID, MS_NOSUID},           {ST_NODEV, MS_NODEV},
      {ST_NOEXEC, MS_NOEXEC},         {ST_SYNCHRONOUS, MS_SYNCHRONOUS}, {ST_NOATIME, MS_NOATIME},
      {ST_NODIRATIME, MS_NODIRATIME}, {ST_RELATIME, MS_RELATIME},
  };
  unsigned long flags = 0;
  for (const auto& [have, want] : kFlags) {
    if (info.f_flag & have) flags |= want;
  }
  return flags;
}

Status mount_flags(const std::string& directory, unsigned long flags) {
  if (::mount(nullptr, directory.c_str(), nullptr, flags, nullptr) == 0) return {};
  return Error(ErrorCode::mount_failed, fmt::format("{}: {}", directory, std::strerror(errno)));
}

// The daemon moves access times, the kernel only shows the words. Nothing can be told through a
// read-only mount, where none are moved.
Status tune_atime(const std::string& directory, const MountOptions& options) {
  constexpr unsigned long kWords = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
  if ((options.mentioned & kWords) == 0) return {};
  const FileSystemOptions& filesystem = options.filesystem;
  return write_control(directory, kControlTune,
                       fmt::format("atime={}{}", to_string(filesystem.atime),
                                   filesystem.directory_atime ? "" : "/nodir"));
}

Status remount(const std::string& directory, const MountOptions& options) {
  const auto entry = mounted_at(directory);
  if (!entry || !entry->stablefs()) {
    return Error(ErrorCode::mount_failed, directory + ": no stablefs is mounted there");
  }
  const unsigned long before = current_flags(directory);
  const unsigned long flags = (before & ~options.mentioned) | (options.flags & options.mentioned);
  if ((flags & MS_RDONLY) == 0) {
    const auto info = FS_TRY(read_info(directory));
    if (info.read_only) {
      return Error(ErrorCode::read_only,
                   directory + " was mounted so; unmount it and mount it again");
    }
  }
  const bool was_writable = (before & MS_RDONLY) == 0;
  if (was_writable) FS_TRY(tune_atime(directory, options));
  FS_TRY(mount_flags(directory, MS_REMOUNT | flags));
  const bool became_writable = !was_writable && (flags & MS_RDONLY) == 0;
  return became_writable ? tune_atime(directory, options) : Status();
}

// A second mount of a device shows the first one, as with any filesystem. There is one daemon.
Status bind_existing(const MountEntry& existing, const MountRequest& request) {
  const bool existing_read_only = (current_flags(existing.directory) & MS_RDONLY) != 0;
  if (existing_read_only && (request.options.flags & MS_RDONLY) == 0) {
    return Error(ErrorCode::device_busy,
                 fmt::format("{} is mounted read-only on {}", request.source, existing.directory));
  }
  if (::mount(existing.directory.c_str(), request.directory.c_str(), nullptr, MS_BIND, nullptr) !=
      0) {
    return Error(ErrorCode::mount_failed,
                 fmt::format("{}: {}", request.directory, std::strerror(errno)));
  }
  if (request.options.flags == 0) return {};
  const Status status =
      mount_flags(request.directory, MS_REMOUNT | MS_BIND | request.options.flags);
  if (!status.ok()) ::umount2(request.directory.c_str(), MNT_DETACH);
  return status;
}

enum class Found : uint8_t { nothing, bound };

// Looks for mounts of the source there are already: dead ones are taken away, a living one of a
// block device is shown again, anything else is refused.
Result<Found> meet_existing_mounts(const MountRequest& request) {
  std::optional<MountEntry> living;
  for (const MountEntry& entry : mounts_of(request.source_path)) {
    if (!entry.stablefs()) continue;
    if (!answers(entry)) {
      retire_dead_mounts(entry.device);
      if (::geteuid() != 0) (void)unmount_by_helper(entry.directory, true).ok();
    } else if (entry.root == "/") {
      living = entry;
    }
  }
  if (!living) return Found::nothing;
  const bool same_device = living->device == device_number(request.source_path);
  if (!same_device || ::geteuid() != 0) {
    return Error(ErrorCode::device_busy,
                 fmt::format("{} is mounted on {}", request.source, living->directory));
  }
  if (!request.options.iolog.empty()) {
    return Error(ErrorCode::device_busy, fmt::format("{} is mounted on {}: a recording begins "
                                                     "with the mount",
                                                     request.source, living->directory));
  }
  if (request.directory.empty()) return Found::nothing;  // what is wrong with it is told later
  if (living->directory == request.directory) {
    return Error(ErrorCode::device_busy,
                 fmt::format("{} is mounted there already", request.source));
  }
  FS_TRY(bind_existing(*living, request));
  return Found::bound;
}

Result<MountRequest> make_request(const std::string& source, const MountOptions& options) {
  MountRequest request;
  request.source_path = FS_TRY(canonical(source));
  request.source = source.starts_with('/') ? source : request.source_path;
  request.options = options;
  if (!options.iolog.empty()) request.options.iolog = FS_TRY(resolve_iolog_path(options.iolog));
  return request;
}

// As mount(8) does it for filesystems of the kernel; it passes "rw" whether anybody asked or not.
Status meet_write_protection(const char* program, MountRequest& request) {
  MountOptions& options = request.options;
  if ((options.flags & MS_RDONLY) != 0 || !write_protected(request.source_path)) return {};
  if (!options.iolog.empty()) {
    return Error(ErrorCode::device_open,
                 request.source + " is write-protected: there is nothing to record");
  }
  fail(program, request.source + " is write-protected, mounting read-only");
  options.flags |= MS_RDONLY;
  options.filesystem.read_only = true;
  return {};
}

int mount_source(const char* program, const std::string& source, const std::string& directory,
                 const MountOptions& options, bool foreground) {
  Result<MountRequest> request = make_request(source, options);
  if (!request.ok()) return fail(program, request.error(), kExitMountFailed);
  MountLock lock(request->source_path);
  // A dead mount may be in the way of its own directory, so the directory is looked at twice.
  if (const Result<std::string> early = canonical_directory(directory); early.ok()) {
    request->directory = *early;
  }
  if (const Status status = meet_write_protection(program, *request); !status.ok()) {
    return fail(program, status.error(), kExitMountFailed);
  }
  const Result<Found> found = meet_existing_mounts(*request);
  if (!found.ok()) return fail(program, found.error(), kExitMountFailed);
  if (*found == Found::bound) return 0;
  const Result<std::string> resolved = canonical_directory(directory);
  if (!resolved.ok()) return fail(program, resolved.error(), kExitMountFailed);
  request->directory = *resolved;
  if (const std::string& log = request->options.iolog;
      !log.empty() && lies_below(log, request->directory)) {
    const Error error(ErrorCode::bad_option, "iolog=" + log + ": lies on the mount it records");
    return fail(program, error, kExitMountFailed);
  }

  const auto daemon = [&](StartReport& report) {
    const std::unique_ptr<Logger> logger = make_daemon_logger(report.background());
    MountDaemon mount(*request, *logger);
    return mount.run(report, kExitMountFailed);
  };
  if (!foreground) return run_in_background(program, kExitMountFailed, daemon);
  StartReport report(program);
  report.on_ready([&lock] { lock.release(); });
  return daemon(report);
}

}  // namespace

int mount_main(int argc, char** argv) {
  CLI::App app(
      "Mounts the stablefs filesystem on SOURCE, a block device or an image file, at DIR.");
  std::string source, directory, type;
  std::vector<std::string> words;
  bool foreground = false, ignored = false;
  app.add_option("SOURCE", source, "block device or image file")->required();
  app.add_option("DIR", directory, "where to mount it")->required();
  app.add_option("-o", words, "mount options, separated by commas")->allow_extra_args(false);
  app.add_flag("-f,--foreground", foreground, "serve in the foreground until unmounted");
  // mount(8) passes these on.
  app.add_option("-t", type)->group("");
  app.add_flag("-n,-s,-v,-w,-r", ignored)->group("");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;

  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ",") + word;
  const Result<MountOptions> options = parse_mount_options(all);
  if (!options.ok()) return fail(argv[0], options.error(), kExitUsage);
  if (options->remount) {
    const Result<std::string> resolved = canonical_directory(directory);
    if (!resolved.ok()) return fail(argv[0], resolved.error(), kExitMountFailed);
    const Status status = remount(*resolved, *options);
    return status.ok() ? 0 : fail(argv[0], status.error(), kExitMountFailed);
  }
  return mount_source(argv[0], source, directory, *options, foreground);
}

}  // namespace stablefs
