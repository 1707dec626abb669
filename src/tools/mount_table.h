// SPDX-License-Identifier: GPL-2.0-or-later
// What is mounted where, from /proc/self/mountinfo.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace stablefs {

struct MountEntry {
  dev_t device = 0;
  std::string root;  // within the filesystem: "/" unless a part of it is bind-mounted
  std::string directory;
  std::string type;
  std::string source;

  bool stablefs() const { return type == "fuseblk.stablefs" || type == "fuse.stablefs"; }
  bool block_device() const { return type == "fuseblk.stablefs"; }
};

std::vector<MountEntry> parse_mount_table(std::string_view mountinfo);
std::vector<MountEntry> read_mount_table();

// What is on top at `directory` (absolute, canonical).
std::optional<MountEntry> mounted_at(const std::string& directory);

// Does a daemon still answer there? (Attributes may come from the kernel; statfs never does.)
bool answers(const MountEntry& entry);

// Takes away what a killed daemon left: a superblock that only says ENOTCONN would otherwise be
// joined by every later mount of its device.
void retire_dead_mounts(dev_t device);

}  // namespace stablefs
