// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/background.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "tools/command_line.h"

namespace stablefs {
namespace {

constexpr char kReady = '\0';

class SyslogLogger final : public Logger {
 public:
  SyslogLogger() { ::openlog("stablefs", LOG_PID, LOG_DAEMON); }
  ~SyslogLogger() override { ::closelog(); }
  void write(LogLevel level, std::string_view line) override {
    ::syslog(priority(level), "%.*s", static_cast<int>(line.size()), line.data());
  }

 private:
  static int priority(LogLevel level) {
    switch (level) {
      case LogLevel::debug:
        return LOG_DEBUG;
      case LogLevel::info:
        return LOG_INFO;
      case LogLevel::warning:
        return LOG_WARNING;
      case LogLevel::error:
        return LOG_ERR;
    }
    return LOG_ERR;
  }
};

void silence_standard_descriptors() {
  const int null = ::open("/dev/null", O_RDWR);
  for (int descriptor = 0; null >= 0 && descriptor <= 2; ++descriptor) ::dup2(null, descriptor);
  if (null > 2) ::close(null);
}

// A descriptor kept open would hold the caller's locks, pipes and directories for as long as the
// filesystem is mounted.
int leave_caller_behind(int report) {
  ::setsid();
  if (::chdir("/") != 0) return -1;
  ::umask(0);
  if (::dup2(report, 3) != 3) return -1;
  ::fcntl(3, F_SETFD, FD_CLOEXEC);
  ::close_range(4, ~0u, 0);
  return 3;
}

int wait_for_report(const char* program, int failure_status, int report, pid_t daemon) {
  std::string text;
  char part[512];
  ssize_t length;
  while ((length = ::read(report, part, sizeof part)) != 0) {
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) break;
    text.append(part, static_cast<size_t>(length));
    if (text[0] == kReady) return 0;
  }
  int status = 0;
  ::waitpid(daemon, &status, 0);
  if (text.empty()) text = "the daemon ended unexpectedly";
  return fail(program, text, failure_status);
}

}  // namespace

void StartReport::ready() {
  if (on_ready_) on_ready_();
  if (!background_) return;
  silence_standard_descriptors();
  [[maybe_unused]] const ssize_t written = ::write(pipe_, &kReady, 1);
  ::close(std::exchange(pipe_, -1));
}

void StartReport::failed(std::string_view why) {
  if (!background_) {
    fail(program_, why);
    return;
  }
  [[maybe_unused]] const ssize_t written = ::write(pipe_, why.data(), why.size());
  ::close(std::exchange(pipe_, -1));
}

int run_in_background(const char* program, int failure_status,
                      const std::function<int(StartReport&)>& daemon) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(program, std::strerror(errno), failure_status);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return fail(program, std::strerror(errno), failure_status);
  if (child > 0) {
    ::close(ends[1]);
    return wait_for_report(program, failure_status, ends[0], child);
  }
  StartReport report(program, leave_caller_behind(ends[1]));
  const int status = daemon(report);
  // Not exit(): what the parent had buffered or registered is the parent's.
  ::_exit(status);
}

std::unique_ptr<Logger> make_daemon_logger(bool background) {
  if (background) return std::make_unique<SyslogLogger>();
  return std::make_unique<StderrLogger>();
}

}  // namespace stablefs
