// SPDX-License-Identifier: GPL-2.0-or-later
// Bounded model checking: every workload of one and of two operations over a small alphabet,
// followed by something that makes it durable, and every crash state on the way.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "sim/environment.h"
#include "sim/tree.h"

namespace stablefs::sim {

struct SmallWorkload {
  std::vector<uint64_t> operations;  // numbers in the alphabet
  uint64_t persistence = 0;
  bool eager = false;  // dirty pages are written back at once, to a slow device

  std::string text() const;
};

struct SmallReport {
  std::string failure;        // empty: none
  uint64_t crashes = 0;       // states judged
  std::set<uint64_t> states;  // distinct images
};

class Exhaustive {
 public:
  explicit Exhaustive(const Environment& environment);

  const std::vector<SmallWorkload>& workloads() const { return workloads_; }
  SmallReport run(const SmallWorkload& workload) const;

 private:
  MemoryImage start_;  // a filesystem with a few synced files
  Tree tree_;
  std::vector<SmallWorkload> workloads_;
};

}  // namespace stablefs::sim
