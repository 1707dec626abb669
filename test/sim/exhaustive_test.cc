// SPDX-License-Identifier: GPL-2.0-or-later
// All small workloads, all their crash states.
#include "sim/exhaustive.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cstdio>

#include "base/sync.h"
#include "sim/crew.h"

using namespace stablefs;
using namespace stablefs::sim;

namespace {

constexpr size_t kFailuresMax = 3;

}  // namespace

TEST_CASE("every crash state of every workload of two operations keeps the contract",
          "[sim][exhaustive]") {
  keep_freed_memory();
  const Environment environment;
  const Exhaustive exhaustive(environment);
  const auto& workloads = exhaustive.workloads();
  const uint64_t every = slowness();
  uint64_t crashes = 0;
  std::set<uint64_t> states;
  std::vector<std::string> failures;
  Mutex mutex{LockRank::leaf, "totals"};
  share_jobs(workloads.size() / every, [&](uint64_t number) {
    const SmallReport report = exhaustive.run(workloads[number * every]);
    MutexLock lock(mutex);
    crashes += report.crashes;
    states.insert(report.states.begin(), report.states.end());
    if (!report.failure.empty()) failures.push_back(report.failure);
    return failures.size() < kFailuresMax;
  });
  std::printf("exhaustive: %zu workloads, %lu crashes, %zu distinct crash states\n",
              workloads.size() / every, crashes, states.size());
  for (const std::string& failure : failures) {
    std::printf("%s\n", failure.c_str());
    UNSCOPED_INFO(failure);
  }
  CHECK(failures.empty());
}
