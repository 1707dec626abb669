// SPDX-License-Identifier: GPL-2.0-or-later
// Every crash state of an epoch, for epochs of few writes.
#pragma once

#include <functional>

#include "base/prng.h"
#include "device/volatile_cache.h"

namespace stablefs::sim {

// Calls visit(image) for: every subset of up to five unflushed writes; of more, nothing, all, each
// prefix, each write missing, each write alone; and each write torn, with the others kept and with
// the others lost.
void for_each_crash_state(const VolatileCache& cache, Prng& tear,
                          const std::function<void(MemoryImage)>& visit);

}  // namespace stablefs::sim
