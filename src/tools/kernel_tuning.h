// SPDX-License-Identifier: GPL-2.0-or-later
// Best effort, as root: the kernel's defaults for FUSE mounts strangle throughput, and a daemon
// that writes out dirty pages must not be the one the kernel waits on or kills for memory.
#pragma once

#include <sys/types.h>

namespace stablefs {

// Before threads are started: they inherit it.
void prepare_daemon_process();

// After mount(2): `device` is the mount's, as in mountinfo.
void raise_kernel_limits(dev_t device, bool block_device);

}  // namespace stablefs
