// SPDX-License-Identifier: GPL-2.0-or-later
// Whether a filesystem survives one crash state: it must mount without help, check clean, and
// satisfy the user's own command.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/clock.h"
#include "device/crash_images.h"
#include "device/overlay_device.h"

namespace stablefs {

class CrashCheck {
 public:
  // `command` may be empty. `directory` is an empty one to mount on when there is a command, which
  // is killed when `stop` becomes true.
  CrashCheck(std::string command, std::string directory, const std::atomic<bool>* stop = nullptr)
      : command_(std::move(command)), directory_(std::move(directory)), stop_(stop) {}

  // What is wrong with the state, a line each; an error when it could not be checked.
  Result<std::vector<std::string>> check(const CrashState& state);

 private:
  std::vector<std::string> recover(OverlayDevice& device);
  std::vector<std::string> check_filesystem_on(OverlayDevice& device);
  Result<std::vector<std::string>> ask_command(OverlayDevice& device, const CrashState& state);

  const std::string command_;
  const std::string directory_;
  const std::atomic<bool>* const stop_;
  SystemClock clock_;
};

}  // namespace stablefs
