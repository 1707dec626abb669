// SPDX-License-Identifier: GPL-2.0-or-later
// One state of a device, mounted so that a program can look at it and write to it; what it writes
// is forgotten.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "device/block_device.h"
#include "fs/file_system.h"
#include "fuse/adapter.h"
#include "fuse/session.h"

namespace stablefs {

class CrashMount {
 public:
  // Both must outlive it. Needs root, or fusermount3.
  static Result<std::unique_ptr<CrashMount>> start(BlockDevice& device,
                                                   const std::string& directory, Clock& clock,
                                                   Logger& logger);
  ~CrashMount();  // unmounts
  CrashMount(const CrashMount&) = delete;
  CrashMount& operator=(const CrashMount&) = delete;

 private:
  explicit CrashMount(std::string directory) : directory_(std::move(directory)) {}
  Status attach(Logger& logger);
  void detach();

  const std::string directory_;
  std::unique_ptr<FileSystem> fs_;
  std::unique_ptr<Adapter> adapter_;
  std::unique_ptr<Session> session_;
  bool attached_ = false;
};

struct CommandOutcome {
  int status = 0;      // as a shell has it: 128 and more for a signal
  std::string output;  // of both descriptors, its last part when it is long
};

// Runs `command` through the shell with `argument` behind it and these variables set. When `stop`
// becomes true, all it started (its process group) is killed, and that is an error.
Result<CommandOutcome> run_command(
    const std::string& command, const std::string& argument,
    const std::vector<std::pair<std::string, std::string>>& variables,
    const std::atomic<bool>* stop = nullptr);

}  // namespace stablefs
