// SPDX-License-Identifier: GPL-2.0-or-later
// What is kept of a crash state that failed: the device as the crash left it, what is wrong, and
// how to look at it again.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "device/crash_images.h"

namespace stablefs {

// Makes DIRECTORY/STATE with "image" (sparse), "report.txt" and "replay.sh". `replay` is a command
// for the shell.
Status write_crash_bundle(const std::string& directory, const CrashState& state,
                          const std::vector<std::string>& problems, const std::string& replay);

// A word as the shell takes it literally.
std::string shell_quoted(const std::string& word);

}  // namespace stablefs
