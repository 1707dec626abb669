// SPDX-License-Identifier: GPL-2.0-or-later
// One seed: a filesystem is mounted, several threads work on it, pictures are taken of what a power
// failure would leave; each is recovered and judged. Then it goes on from one of them, from a
// killed daemon, or from a clean unmount.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sim/environment.h"

namespace stablefs::sim {

struct RunOptions {
  uint64_t seed = 1;
  // Numbers of the choices to make; nothing: all. For the minimiser.
  std::optional<std::set<uint64_t>> keep{};
  bool dense = false;  // pictures at every device event, with every policy
};

struct RunReport {
  std::string failure;        // empty: none
  uint64_t digest = 0;        // of everything that happened
  uint64_t choices = 0;       // how many there were to make
  uint64_t operations = 0;    // how many events came of them
  uint64_t pictures = 0;      // judged
  uint64_t nested = 0;        // of them taken during a recovery
  std::set<uint64_t> states;  // distinct images that were mounted
};

RunReport run_seed(const Environment& environment, const RunOptions& options);

}  // namespace stablefs::sim
