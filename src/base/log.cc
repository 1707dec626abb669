// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log.h"

#include <unistd.h>

#include <string>

namespace stablefs {
namespace {

const char* prefix(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "stablefs: debug: ";
    case LogLevel::info:
      return "stablefs: ";
    case LogLevel::warning:
      return "stablefs: warning: ";
    case LogLevel::error:
      return "stablefs: error: ";
  }
  return "stablefs: ";
}

}  // namespace

// One write(2) a line: lines of several threads do not mix, and no lock is needed. What a full or
// closed stderr swallows is lost on purpose; logging must never stop the filesystem.
void StderrLogger::write(LogLevel level, std::string_view line) {
  if (level < minimum_) return;
  std::string text = prefix(level);
  text += line;
  text += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace stablefs
