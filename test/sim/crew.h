// SPDX-License-Identifier: GPL-2.0-or-later
// Host threads that share independent jobs, one on each processor. A job's run may have simulated
// threads of its own.
#pragma once

#include <cstdint>
#include <functional>

namespace stablefs::sim {

// Calls job(0) to job(count - 1), each once, in any order, until one returns false.
void share_jobs(uint64_t count, const std::function<bool(uint64_t)>& job);

// How much slower than a plain build this one is; for budgets.
uint64_t slowness();

// Keeps memory for reuse: most of the time of short runs goes to the kernel otherwise.
void keep_freed_memory();

}  // namespace stablefs::sim
