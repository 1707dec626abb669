// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a failing run small: leaves operations out as long as it still fails.
#pragma once

#include <string>

#include "sim/run.h"

namespace stablefs::sim {

struct Minimised {
  RunOptions options;  // of the smallest run that fails
  RunReport report;
  uint64_t runs = 0;  // it took
};
// `failing` fails. Never gives up on that: at worst, what comes back is the run it was given.
Minimised minimise(const Environment& environment, const RunOptions& failing, uint64_t runs_max);

// A shell command that repeats this run.
std::string replay_command(const RunOptions& options);
// From the environment variables of such a command; nothing: there are none.
std::optional<RunOptions> replay_options();

}  // namespace stablefs::sim
