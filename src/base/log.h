// SPDX-License-Identifier: GPL-2.0-or-later
// Log lines for the administrator: one line a message, what failed, on what, why, what is done.
#pragma once

#include <string_view>

namespace stablefs {

enum class LogLevel { debug, info, warning, error };

class Logger {
 public:
  virtual ~Logger() = default;
  virtual void write(LogLevel level, std::string_view line) = 0;  // thread-safe
};

class NullLogger final : public Logger {
 public:
  void write(LogLevel, std::string_view) override {}
};

// To stderr with the prefix "stablefs: "; lines below `minimum` are dropped.
class StderrLogger final : public Logger {
 public:
  explicit StderrLogger(LogLevel minimum = LogLevel::info) : minimum_(minimum) {}
  void write(LogLevel level, std::string_view line) override;

 private:
  LogLevel minimum_;
};

}  // namespace stablefs
