// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/mount_daemon.h"

#include <errno.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/time_text.h"
#include "fuse/kernel_mount.h"
#include "tools/command_line.h"
#include "tools/kernel_tuning.h"
#include "tools/loop_device.h"
#include "tools/mount_table.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

constexpr uint32_t kInitWaitMs = 10'000;
constexpr uint64_t kLargeWriteBlocks = 16;  // metadata is seldom written in such pieces

// Blocked in every thread, so that only the main thread's descriptor gets them.
int open_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return ::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

std::string label_text(const DiskSuperblock& superblock) {
  return {superblock.label, ::strnlen(superblock.label, sizeof superblock.label)};
}

const char* cache_name(CacheMode cache) {
  switch (cache) {
    case CacheMode::kernel:
      return "kernel";
    case CacheMode::through:
      return "through";
    case CacheMode::daemon:
      return "daemon";
  }
  return "";
}

}  // namespace

MountDaemon::~MountDaemon() {
  session_.reset();
  adapter_.reset();
  fs_.reset();
  drop_device();
  if (signals_ >= 0) ::close(signals_);
  if (abort_descriptor_ >= 0) ::close(abort_descriptor_);
}

int MountDaemon::run(StartReport& report, int failure_status) {
  privileged_ = ::geteuid() == 0;
  signals_ = open_signals();
  abort_descriptor_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  prepare_daemon_process();
  if (const Status status = start(); !status.ok()) {
    undo_start();
    report.failed(status.error().message());
    return failure_status;
  }
  report.ready();
  serve();
  return close_failed_ ? 1 : 0;
}

Status MountDaemon::start() {
  FS_TRY(open_filesystem());
  FS_TRY(attach());
  FS_TRY(session_->start(kInitWaitMs));
  if (const auto entry = mounted_at(request_.directory)) {
    mount_device_ = entry->device;
    if (privileged_) raise_kernel_limits(entry->device, entry->block_device());
  }
  return {};
}

// What the filesystem shall use: the source itself, or one that records what goes there.
Result<BlockDevice*> MountDaemon::open_device() {
  OpenDeviceOptions options;
  options.read_only = request_.options.filesystem.read_only;
  options.exclusive_wait_ms = kPredecessorWaitMs;
  device_ = FS_TRY(open_source(request_.source_path, options, logger_));
  BlockDevice* device = device_.get();
  const MountOptions& wanted = request_.options;
  if (!wanted.iolog.empty()) {
    recording_ = FS_TRY(IoRecording::start(wanted.iolog, *device_));
    device = &recording_->device();
  }
  if (wanted.verify_one_in != 0) {
    VerifyingOptions verifying;
    verifying.sample_one_in = static_cast<uint32_t>(wanted.verify_one_in);
    verifying_ = std::make_unique<VerifyingDevice>(*device, verifying);
    device = verifying_.get();
  }
  if (wanted.injected_error_one_in != 0) {
    const FaultRule rule{.kind = FaultKind::fail,
                         .op = DeviceOp::write,
                         .blocks_min = kLargeWriteBlocks,
                         .times = UINT64_MAX,
                         .one_in = wanted.injected_error_one_in};
    faulty_ = std::make_unique<FaultyDevice>(
        *device, FaultPlan{.seed = clock_.monotonic_ns(), .rules = {rule}});
    device = faulty_.get();
  }
  if (wanted.injected_delay_ns != 0) {
    delaying_ = std::make_unique<DelayingDevice>(*device, clock_, wanted.injected_delay_ns,
                                                 clock_.monotonic_ns());
    device = delaying_.get();
  }
  return device;
}

void MountDaemon::drop_device() {
  delaying_.reset();
  faulty_.reset();
  verifying_.reset();
  recording_.reset();
  device_.reset();
}

void MountDaemon::warn_if_unsafe() {
  const FileSystemOptions& options = request_.options.filesystem;
  if (options.stable == StablePolicy::off) {
    logger_.write(LogLevel::warning,
                  request_.source +
                      ": stable=off: pages change while they are written, and what "
                      "is written then cannot be read");
  }
  if (!options.guard) {
    logger_.write(LogLevel::warning,
                  request_.source +
                      ": guard=off: nothing is verified, and what is written now "
                      "cannot be read without guard=off");
  }
}

Status MountDaemon::open_filesystem() {
  BlockDevice* const device = FS_TRY(open_device());
  warn_if_unsafe();
  FileSystemOptions options = request_.options.filesystem;
  options.clock = &clock_;
  options.new_epoch = [](uint8_t epoch[16]) {
    const auto random = random_bytes16();
    std::copy(random.begin(), random.end(), epoch);
  };
  options.logger = &logger_;
  options.on_abort = [this] { tell_abort(); };
  Result<std::unique_ptr<FileSystem>> fs = FileSystem::open(*device, options);
  if (!fs.ok()) {
    const Error& error = fs.error();
    return Error(error.code(), error.detail().empty() ? request_.source
                                                      : request_.source + ": " + error.detail());
  }
  fs_ = std::move(*fs);
  AdapterOptions adapter_options;
  adapter_options.cache = options.cache;
  adapter_options.info = [this] { return info(); };
  adapter_options.label = label_text(fs_->store().superblock());
  adapter_options.destroy = [this] { close_filesystem(); };
  if (recording_) {
    adapter_options.mark = [this](std::string_view text) { recording_->mark(text); };
  }
  adapter_options.unsafe = request_.options.unsafe;
  if (verifying_) {
    adapter_options.add_counters = [&device = *verifying_](Statistics& out) {
      out.emplace_back("verify_dma.checked", device.verifying_counters().checked);
      out.emplace_back("verify_dma.mismatches", device.verifying_counters().mismatches);
    };
  }
  adapter_ = std::make_unique<Adapter>(*fs_, adapter_options);
  return {};
}

std::string MountDaemon::info() const {
  const DiskSuperblock& superblock = fs_->store().superblock();
  nlohmann::json out;
  out["pid"] = ::getpid();
  out["version"] = STABLEFS_VERSION;
  out["source"] = request_.source_path;
  out["directory"] = request_.directory;
  out["options"] = request_.options.text;
  out["read_only"] = request_.options.filesystem.read_only;
  out["cache"] = cache_name(request_.options.filesystem.cache);
  out["uuid"] = uuid_text(superblock.uuid);
  out["label"] = label_text(superblock);
  out["size_bytes"] = uint64_t{superblock.block_count} * kBlockSize;
  out["interval"] = uint32_t{superblock.interval};
  out["copies"] = superblock.copies;
  out["journal_bytes"] = uint64_t{superblock.journal_length_blocks} * kBlockSize;
  out["created"] = uint64_t{superblock.created_seconds};
  if (const Health* health = fs_->health()) {
    out["state"] = to_string(health->state());
    if (const auto cause = health->cause()) {
      out["error"] = cause->error.message();
      out["error_time"] = time_text(cause->when);
    }
  }
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Status MountDaemon::attach() {
  int descriptor;
  if (privileged_) {
    descriptor = FS_TRY(open_fuse_descriptor());
    if (const Status status = attach_privileged(descriptor); !status.ok()) {
      ::close(descriptor);
      return status.error();
    }
  } else {
    MountPoint mount;
    mount.source = request_.source;
    mount.directory = request_.directory;
    mount.flags = request_.options.flags;
    mount.allow_other = request_.options.allow_other;
    descriptor = FS_TRY(mount_by_helper(mount));
  }
  attached_ = true;
  session_ = FS_TRY(Session::create(*adapter_, descriptor, {}, logger_));
  return {};
}

Status MountDaemon::attach_privileged(int fuse_descriptor) {
  MountPoint mount;
  mount.source = request_.source;
  mount.directory = request_.directory;
  mount.flags = request_.options.flags;
  if (!device_->is_block_device()) return mount_image(fuse_descriptor, mount);
  mount.block_device = true;
  // The kernel claims the device for the mount and would find us in its way. Whoever slips in
  // between holds it when we mount, and we fail without having anything left to write.
  device_->release_exclusive();
  return mount_descriptor(fuse_descriptor, mount);
}

// A loop device stands for the image, because only a mount of a block device makes sync(2) and
// umount(2) wait for us. The daemon does its I/O on the file itself.
Status MountDaemon::mount_image(int fuse_descriptor, const MountPoint& mount) {
  const bool read_only = (mount.flags & MS_RDONLY) != 0;
  const Result<LoopDevice> loop = attach_loop_device(request_.source_path, read_only);
  if (!loop.ok()) {
    logger_.write(LogLevel::warning,
                  fmt::format("{}; sync and umount will not wait for this mount (use "
                              "\"stablefs umount\")",
                              loop.error().message()));
    return mount_descriptor(fuse_descriptor, mount);
  }
  MountPoint through_loop = mount;
  through_loop.source = loop->path;
  through_loop.block_device = true;
  // What the device's page cache may hold from before is stale. Not after mount(2): flushing a
  // mounted device syncs its filesystem, which nobody serves yet.
  ::ioctl(loop->descriptor, BLKFLSBUF, 0);
  const Status status = mount_descriptor(fuse_descriptor, through_loop);
  ::close(loop->descriptor);
  return status;
}

void MountDaemon::undo_start() {
  if (attached_) {
    // Never by force: what is mounted there may turn out to be another daemon's.
    if (privileged_) {
      (void)unmount_directory(request_.directory, true).ok();
    } else {
      (void)unmount_by_helper(request_.directory, true).ok();
    }
  }
  if (session_) session_->wait();
  // Perhaps another daemon has the device by now.
  if (fs_) fs_->stop();
  // What is still under way is answered through the session.
  fs_.reset();
  session_.reset();
  adapter_.reset();
  if (recording_) recording_->remove_file();
  drop_device();
}

void MountDaemon::serve() {
  pollfd events[3] = {{session_->ended_descriptor(), POLLIN, 0},
                      {signals_, POLLIN, 0},
                      {abort_descriptor_, POLLIN, 0}};
  while ((events[0].revents & POLLIN) == 0) {
    if (::poll(events, 3, -1) < 0) {
      if (errno == EINTR) continue;
      break;
    }
    // Its threads may be waiting in the kernel for requests, or for a device that does not answer.
    if ((events[2].revents & POLLIN) != 0) ::_exit(1);
    signalfd_siginfo signal;
    if (::read(signals_, &signal, sizeof signal) == sizeof signal) unmount_everywhere();
  }
  // Without DESTROY (plain fuse, umount -f, abort) this is where what was acknowledged is kept.
  session_->wait();
  close_filesystem();
}

void MountDaemon::unmount_everywhere() {
  for (const MountEntry& entry : read_mount_table()) {
    if (entry.device != mount_device_ || !entry.stablefs()) continue;
    const auto unmount = privileged_ ? unmount_directory : unmount_by_helper;
    // Busy: it disappears from the tree now, and we serve until the last user has gone.
    if (!unmount(entry.directory, false).ok()) (void)unmount(entry.directory, true).ok();
  }
}

void MountDaemon::tell_abort() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(abort_descriptor_, &one, sizeof one);
}

void MountDaemon::close_filesystem() {
  if (!fs_) return;
  if (const Status status = fs_->close(); !status.ok()) {
    close_failed_ = true;
    logger_.write(LogLevel::error, fmt::format("{}: not everything could be written: {}",
                                               request_.source, status.error().message()));
  }
  fs_.reset();
  delaying_.reset();
  faulty_.reset();
  end_recording();
  // Before umount(2) returns, the next user of the device must be able to have it.
  drop_device();
}

void MountDaemon::end_recording() {
  if (!recording_) return;
  if (const Status status = recording_->finish(); !status.ok()) {
    logger_.write(LogLevel::error, fmt::format("{} ends early: {}", request_.options.iolog,
                                               status.error().message()));
  }
  recording_.reset();
}

}  // namespace stablefs
