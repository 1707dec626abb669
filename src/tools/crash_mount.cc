// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/crash_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "fuse/kernel_mount.h"

namespace stablefs {
namespace {

constexpr uint32_t kInitWaitMs = 10'000;
constexpr int kStopPollMs = 100;
constexpr off_t kOutputBytesMax = 16 << 10;
constexpr const char* kMountName = "stablefs-crash-image";

// The end of what was written to the descriptor.
std::string tail_of(int descriptor) {
  const off_t length = ::lseek(descriptor, 0, SEEK_END);
  const off_t from = std::max<off_t>(0, length - kOutputBytesMax);
  std::string text(static_cast<size_t>(std::max<off_t>(0, length - from)), '\0');
  const ssize_t got = ::pread(descriptor, text.data(), text.size(), from);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

// The caller's environment with these set.
std::vector<std::string> environment_with(
    const std::vector<std::pair<std::string, std::string>>& variables) {
  std::vector<std::string> all;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const auto replaced = [&](const auto& entry) { return text.starts_with(entry.first + "="); };
    if (!std::ranges::any_of(variables, replaced)) all.emplace_back(text);
  }
  for (const auto& [name, value] : variables) {
    all.push_back(name + "=" + value);
    std::ranges::replace(all.back(), '\0', '?');
  }
  return all;
}

// Whether it was stopped before it had ended.
bool wait_or_stop(pid_t child, const std::atomic<bool>& stop) {
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  pollfd ended{process, POLLIN, 0};
  while (process >= 0 && !stop && ::poll(&ended, 1, kStopPollMs) <= 0) {
  }
  if (process >= 0) ::close(process);
  if (!stop) return false;
  ::kill(-child, SIGKILL);
  return true;
}

int exit_status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 127;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

Result<std::unique_ptr<CrashMount>> CrashMount::start(BlockDevice& device,
                                                      const std::string& directory, Clock& clock,
                                                      Logger& logger) {
  std::unique_ptr<CrashMount> mount(new CrashMount(directory));
  FileSystemOptions options;
  options.clock = &clock;
  options.logger = &logger;
  mount->fs_ = FS_TRY(FileSystem::open(device, options));
  mount->adapter_ = std::make_unique<Adapter>(*mount->fs_, AdapterOptions{});
  FS_TRY(mount->attach(logger));
  return mount;
}

// Plain fuse also for root: nothing needs to be durable here when it is unmounted.
Status CrashMount::attach(Logger& logger) {
  MountPoint point;
  point.source = kMountName;
  point.directory = directory_;
  int descriptor = -1;
  if (::geteuid() == 0) {
    descriptor = FS_TRY(open_fuse_descriptor());
    if (const Status status = mount_descriptor(descriptor, point); !status.ok()) {
      ::close(descriptor);
      return status.error();
    }
  } else {
    point.allow_other = false;
    descriptor = FS_TRY(mount_by_helper(point));
  }
  attached_ = true;
  session_ = FS_TRY(Session::create(*adapter_, descriptor, {}, logger));
  return session_->start(kInitWaitMs);
}

CrashMount::~CrashMount() {
  if (attached_) detach();
  if (session_) session_->wait();
  // What was written is not wanted.
  if (fs_) fs_->stop();
  session_.reset();
  adapter_.reset();
  fs_.reset();
}

void CrashMount::detach() {
  const auto unmount = ::geteuid() == 0 ? unmount_directory : unmount_by_helper;
  // Busy: something the command left behind; it is served until that has gone.
  if (!unmount(directory_, false).ok()) (void)unmount(directory_, true).ok();
}

Result<CommandOutcome> run_command(
    const std::string& command, const std::string& argument,
    const std::vector<std::pair<std::string, std::string>>& variables,
    const std::atomic<bool>* stop) {
  const Error failed(ErrorCode::invalid_argument, "cannot run the check");
  const int output = ::memfd_create("output of the check", MFD_CLOEXEC);
  if (output < 0) return failed;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

  const std::string script = command + " \"$@\"";
  std::vector<std::string> words{"sh", "-c", script, "sh", argument};
  std::vector<std::string> environment = environment_with(variables);
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& variable : environment) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  pid_t child = -1;
  const int error =
      ::posix_spawn(&child, "/bin/sh", &actions, &attributes, argv.data(), envp.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  CommandOutcome outcome;
  const bool stopped = error == 0 && stop != nullptr && wait_or_stop(child, *stop);
  if (error == 0) outcome.status = exit_status_of(child);
  if (error == 0) outcome.output = tail_of(output);
  ::close(output);
  if (error != 0) return Error(failed.code(), std::string("the check: ") + std::strerror(error));
  if (stopped) return Error(failed.code(), "interrupted");
  return outcome;
}

}  // namespace stablefs
