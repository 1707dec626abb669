// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/kernel_tuning.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <string>

namespace stablefs {
namespace {

void write_value(const std::string& path, const char* value) {
  std::ofstream file(path);
  file << value << std::endl;
}

}  // namespace

void prepare_daemon_process() {
  // Allocations of ours must not wait for pages that only we can write out.
  ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  write_value("/proc/self/oom_score_adj", "-900");
}

void raise_kernel_limits(dev_t device, bool block_device) {
  const std::string directory = fmt::format("/sys/class/bdi/{}:{}{}/", major(device), minor(device),
                                            block_device ? "-fuseblk" : "");
  write_value(directory + "read_ahead_kb", "2048");
  // FUSE mounts may by default dirty 1 % of what others may.
  write_value(directory + "max_ratio", "100");
  write_value(directory + "strict_limit", "0");
}

}  // namespace stablefs
