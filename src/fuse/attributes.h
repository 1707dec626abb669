// SPDX-License-Identifier: GPL-2.0-or-later
// Attributes in the kernel's clothes.
#pragma once

#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include "fs/file_system.h"
#include "fuse/protocol.h"

namespace stablefs {

// We are the only owner, so nothing the kernel keeps goes stale behind its back.
inline constexpr uint32_t kKeepSeconds = 365 * 86400;

struct stat to_stat(const Attributes& attributes);
StatxOut to_statx(const Attributes& attributes);
fuse_entry_param to_entry(const Attributes& attributes);
fuse_entry_param absent_entry();

}  // namespace stablefs
