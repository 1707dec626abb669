// SPDX-License-Identifier: GPL-2.0-or-later
// Loop devices over an image: one as the mount's source, which the kernel unbinds by itself when
// the mount is gone, and those others may have made.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace stablefs {

struct LoopDevice {
  std::string path;     // /dev/loopN
  int descriptor = -1;  // keeps the device bound until something else uses it; the caller closes
};

Result<LoopDevice> attach_loop_device(const std::string& image, bool read_only);

// Names of loop devices bound to the image: "loop3". By path, and by inode where we may ask.
std::vector<std::string> loop_devices_of(const std::string& image);

// The file behind /dev/loopN; empty when it is no loop device or not bound.
std::string backing_file(const std::string& device);

dev_t device_number(const std::string& path);  // of a block device node, 0 for anything else

}  // namespace stablefs
