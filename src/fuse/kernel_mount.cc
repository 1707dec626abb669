// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/kernel_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace stablefs {
namespace {

constexpr const char* kHelper = "fusermount3";
constexpr const char* kHelperDescriptorVariable = "_FUSE_COMMFD";

Error failure(ErrorCode code, const std::string& subject, int error) {
  return Error(code, fmt::format("{}: {}", subject, std::strerror(error)));
}

// Runs fusermount3 and returns its exit status; `descriptor` stays open in it when >= 0.
Result<pid_t> start_helper(const std::vector<std::string>& arguments, int descriptor) {
  std::vector<char*> argv{const_cast<char*>(kHelper)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, kHelperDescriptorVariable,
                     std::strlen(kHelperDescriptorVariable)) != 0) {
      variables.emplace_back(*variable);
    }
  }
  variables.push_back(fmt::format("{}={}", kHelperDescriptorVariable, descriptor));
  std::vector<char*> envp;
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, kHelper, nullptr, nullptr, argv.data(), envp.data());
  if (error != 0) return failure(ErrorCode::mount_failed, kHelper, error);
  return pid;
}

bool helper_succeeded(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// The descriptor the helper sends over the socket, -1 when it sent none.
int receive_descriptor(int socket) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t received;
  do {
    received = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  const cmsghdr* header = received > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  int descriptor;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return descriptor;
}

// Commas and backslashes would end the option's value.
std::string escaped(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string helper_options(const MountPoint& mount) {
  std::string options = fmt::format("fsname={},subtype=stablefs,default_permissions,{}",
                                    escaped(mount.source), mount.flags & MS_RDONLY ? "ro" : "rw");
  if (mount.allow_other) options += ",allow_other";
  if (mount.flags & MS_NOEXEC) options += ",noexec";
  if (mount.flags & MS_NOATIME) options += ",noatime";
  if (mount.flags & MS_SYNCHRONOUS) options += ",sync";
  if (mount.flags & MS_DIRSYNC) options += ",dirsync";
  return options;
}

}  // namespace

Result<int> open_fuse_descriptor() {
  const int descriptor = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return failure(ErrorCode::mount_failed, "/dev/fuse", errno);
  return descriptor;
}

Status mount_descriptor(int fuse_descriptor, const MountPoint& mount) {
  std::string data = fmt::format("fd={},rootmode=40000,user_id={},group_id={},default_permissions",
                                 fuse_descriptor, ::geteuid(), ::getegid());
  if (mount.allow_other) data += ",allow_other";
  if (mount.block_device) data += ",blksize=4096";
  const char* type = mount.block_device ? "fuseblk.stablefs" : "fuse.stablefs";
  if (::mount(mount.source.c_str(), mount.directory.c_str(), type, mount.flags, data.c_str()) ==
      0) {
    return {};
  }
  const int error = errno;
  const ErrorCode code = error == EBUSY ? ErrorCode::device_busy : ErrorCode::mount_failed;
  return failure(code, fmt::format("{} on {}", mount.source, mount.directory), error);
}

Result<int> mount_by_helper(const MountPoint& mount) {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    return failure(ErrorCode::mount_failed, "socketpair", errno);
  }
  // The helper's end must survive exec; there are no other threads yet that could inherit it.
  ::fcntl(sockets[0], F_SETFD, 0);
  const Result<pid_t> pid =
      start_helper({"-o", helper_options(mount), "--", mount.directory}, sockets[0]);
  ::close(sockets[0]);
  if (!pid.ok()) {
    ::close(sockets[1]);
    return pid.error();
  }
  const int descriptor = receive_descriptor(sockets[1]);
  ::close(sockets[1]);
  if (helper_succeeded(*pid) && descriptor >= 0) return descriptor;
  if (descriptor >= 0) ::close(descriptor);
  return Error(ErrorCode::mount_failed, fmt::format("{} refused", kHelper));
}

// In a process without any of our descriptors. umount(2) on a block device waits for the answer to
// DESTROY and cannot be killed: in a thread of the daemon it would keep a killed daemon, and with
// it the open /dev/fuse whose end is what ends that wait, alive for ever, and sync(2) waiting with
// it.
Status unmount_directory(const std::string& directory, bool detach) {
  const int flags = UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0);
  const char* const path = directory.c_str();
  const pid_t pid = ::fork();
  if (pid == 0) {
    // Other threads held locks when we were forked: system calls only.
    ::syscall(SYS_close_range, 0u, ~0u, 0u);
    ::_exit(::umount2(path, flags) == 0 ? 0 : errno);
  }
  int status = 0;
  while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  const int reason = pid < 0 ? errno : WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  return failure(ErrorCode::unmount_failed, directory, reason);
}

Status unmount_by_helper(const std::string& directory, bool detach) {
  std::vector<std::string> arguments{"-u", "-q"};
  if (detach) arguments.push_back("-z");
  arguments.insert(arguments.end(), {"--", directory});
  const pid_t pid = FS_TRY(start_helper(arguments, -1));
  if (helper_succeeded(pid)) return {};
  return Error(ErrorCode::unmount_failed, directory);
}

}  // namespace stablefs
