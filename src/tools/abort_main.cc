// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs abort DIR: for a device that does not answer. What waits for it fails with EIO, and so
// does all that comes later; what was synced is safe, the next mount recovers it.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"

namespace stablefs {
namespace {

constexpr uint64_t kPatienceNs = 5 * kNsPerSecond;
constexpr useconds_t kLookUs = 10'000;

// In a process of its own: a daemon whose threads hang in the kernel may not answer.
std::optional<int> ask_daemon(const char* program, const std::string& directory) {
  const pid_t asker = ::fork();
  if (asker == 0) {
    const Status status = write_control(directory, kControlAbort, "now");
    ::_exit(status.ok() ? 0 : fail(program, status.error()));
  }
  SystemClock clock;
  const uint64_t deadline_ns = clock.monotonic_ns() + kPatienceNs;
  while (asker > 0 && clock.monotonic_ns() < deadline_ns) {
    int status = 0;
    if (::waitpid(asker, &status, WNOHANG) == asker) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
    ::usleep(kLookUs);
  }
  if (asker > 0) ::kill(asker, SIGKILL);
  return std::nullopt;
}

// The kernel ends every request itself, and the connection with them.
bool abort_connection(const std::string& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) return false;
  const uint64_t connection = uint64_t{major(status.st_dev)} << 20 | uint64_t{minor(status.st_dev)};
  const std::string path = fmt::format("/sys/fs/fuse/connections/{}/abort", connection);
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool done = ::write(file, "1", 1) == 1;
  ::close(file);
  return done;
}

}  // namespace

int abort_main(int argc, char** argv) {
  CLI::App app(
      "Ends the filesystem mounted at DIR at once: everything that waits for its device fails with "
      "an I/O error, nothing more is written. Unmount it then; what was synced is safe.");
  std::string directory;
  app.add_option("DIR", directory, "where it is mounted")->required();
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  if (const auto answer = ask_daemon(argv[0], directory)) return *answer;
  if (abort_connection(directory)) {
    fmt::print(stderr, "{}: {}: the daemon does not answer; its connection was ended\n", argv[0],
               directory);
    return 0;
  }
  return fail(argv[0], directory +
                           ": the daemon does not answer, and its connection could not be ended: "
                           "mount fusectl at /sys/fs/fuse/connections, as root, and try again");
}

}  // namespace stablefs
