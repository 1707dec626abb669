// SPDX-License-Identifier: GPL-2.0-or-later
// Completes libfuse's answer to INIT with what it cannot negotiate itself.
#pragma once

#include <cstdint>

#include "fuse/protocol.h"

namespace stablefs {

// Flags the kernel offered, high word included.
uint64_t offered_init_flags(const fuse_init_in& request);

// Adds to `reply` those of PARALLEL_DIROPS (without it, lookups in one directory go one by one),
// HANDLE_KILLPRIV_V2 (spares a GETXATTR before every write), SETXATTR_EXT (tells whether an access
// list may keep the set-group-ID bit) and DIRECT_IO_ALLOW_MMAP (without it, a shared mapping of a
// direct file fails) that were offered, and raises the minor version.
void complete_init_reply(const fuse_init_in& request, fuse_init_out& reply);

}  // namespace stablefs
