// SPDX-License-Identifier: GPL-2.0-or-later
// For tests of what must stop the process: runs `body` in a child and returns what it printed on
// stderr before it aborted; empty when it did not abort.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>

namespace stablefs {

// ThreadSanitizer cannot start threads in a child of a process whose threads still sleep.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kChildMayStartThreads = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kChildMayStartThreads = false;
#else
inline constexpr bool kChildMayStartThreads = true;
#endif
#else
inline constexpr bool kChildMayStartThreads = true;
#endif

inline std::string output_of_death(const std::function<void()>& body) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child < 0) return {};
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);  // Catch2's handler would report a failed test
    alarm(30);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    output.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) return {};
  return output;
}

}  // namespace stablefs
