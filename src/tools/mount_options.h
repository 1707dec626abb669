// SPDX-License-Identifier: GPL-2.0-or-later
// The words behind -o: those of mount(8) and fstab(5) become flags or are dropped, ours become
// options of the filesystem, anything else is refused.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "fs/file_system.h"

namespace stablefs {

struct MountOptions {
  unsigned long flags = 0;      // MS_*
  unsigned long mentioned = 0;  // MS_* some word spoke about: what a remount changes
  bool remount = false;
  bool allow_other = false;
  std::string iolog;                   // file to record the device's I/O in; empty: none
  bool unsafe = false;                 // allows what breaks promises
  uint64_t verify_one_in = 64;         // writes checked for changes in flight: one in N; 0: none
  uint64_t injected_error_one_in = 0;  // so many large writes fail at the device; 0: none
  uint64_t injected_delay_ns = 0;      // longest delay before the device sees a write; 0: none
  FileSystemOptions filesystem;
  std::string text = "rw";  // as given, for people
};

Result<MountOptions> parse_mount_options(std::string_view words);

}  // namespace stablefs
