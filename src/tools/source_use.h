// SPDX-License-Identifier: GPL-2.0-or-later
// Who has a SOURCE: looked up before waiting for locks, so that a refusal can say where it is
// mounted and comes at once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/mount_table.h"

namespace stablefs {

// How long to wait for a daemon that is about to let go of the source: one that was killed holds it
// until the kernel has taken down its I/O.
inline constexpr uint32_t kPredecessorWaitMs = 10'000;

// Mounts of the source (canonical path), of any filesystem type: of the block device, of loop
// devices over the image, and plain fuse mounts that name it.
std::vector<MountEntry> mounts_of(const std::string& source);

// Why the source must not be written to by somebody else: a line for people. What daemons that are
// gone left behind does not count; those that live also hold a lock.
std::optional<std::string> in_use(const std::string& source);

// The loop device that the image (canonical path) is attached to, though perhaps idle: its page
// cache and whoever opens it next would see the image change. One that goes away by itself, as
// after unmounting, is waited for.
std::optional<std::string> attached_loop_device(const std::string& image);

// A block device that takes no writes (blockdev --setro, a switch on the medium).
bool write_protected(const std::string& device);

}  // namespace stablefs
