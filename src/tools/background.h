// SPDX-License-Identifier: GPL-2.0-or-later
// Going into the background: the caller's process returns when the daemon has said that it is
// ready, or why it is not.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"

namespace stablefs {

// The daemon's end of the line to whoever started it: a pipe to the caller's process, or stderr in
// the foreground.
class StartReport {
 public:
  explicit StartReport(const char* program) : program_(program) {}
  StartReport(const char* program, int pipe) : program_(program), pipe_(pipe), background_(true) {}

  void on_ready(std::function<void()> call) { on_ready_ = std::move(call); }
  void ready();
  void failed(std::string_view why);
  bool background() const { return background_; }

 private:
  const char* const program_;
  std::function<void()> on_ready_;
  int pipe_ = -1;
  const bool background_ = false;
};

// Forks; `daemon` runs in the child, which leaves session, directory and inherited descriptors
// behind. Returns in the parent only: 0 when ready, else `failure_status` after a line on stderr.
int run_in_background(const char* program, int failure_status,
                      const std::function<int(StartReport&)>& daemon);

// To syslog in the background, to stderr in the foreground.
std::unique_ptr<Logger> make_daemon_logger(bool background);

}  // namespace stablefs
