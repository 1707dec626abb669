// SPDX-License-Identifier: GPL-2.0-or-later
// From a recorded I/O log to the states a crash could have left at any of its moments.
#pragma once

#include <cstddef>

#include "device/io_log.h"
#include "device/memory_image.h"
#include "device/volatile_cache.h"

namespace stablefs {

// The device after the first `events` events of the log: its durable contents, and as unflushed
// events every write a crash at that moment may lose, those in flight included. A flush covers what
// had completed before it was submitted. The recording began on `initial`.
VolatileCache replay_io_log(const IoLog& log, size_t events, MemoryImage initial);

}  // namespace stablefs
