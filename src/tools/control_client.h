// SPDX-License-Identifier: GPL-2.0-or-later
// Asking the daemon behind a mounted directory (see stablefs/control.h).
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace stablefs {

struct DaemonInfo {
  pid_t pid = 0;
  bool read_only = false;
  uint64_t size_bytes = 0;
  std::string json;
};

Result<std::string> read_control(const std::string& directory, const char* name);
Status write_control(const std::string& directory, const char* name, const std::string& value);
Result<DaemonInfo> read_info(const std::string& directory);

}  // namespace stablefs
