// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "sim/run.h"

using namespace stablefs;
using namespace stablefs::sim;

TEST_CASE("seeds", "[sim]") {
  const Environment environment;
  const char* first = std::getenv("STABLEFS_SIM_SEED");
  const char* many = std::getenv("STABLEFS_SIM_SEEDS");
  const uint64_t start = first ? std::strtoull(first, nullptr, 10) : 1;
  const uint64_t count = many ? std::strtoull(many, nullptr, 10) : (first ? 1 : 50);
  std::set<uint64_t> states;
  uint64_t pictures = 0, nested = 0, operations = 0;
  for (uint64_t seed = start; seed < start + count; ++seed) {
    RunOptions options;
    options.seed = seed;
    const RunReport report = run_seed(environment, options);
    if (std::getenv("STABLEFS_SIM_TWICE")) {
      const RunReport again = run_seed(environment, options);
      INFO("seed " << seed << " twice");
      CHECK(report.digest == again.digest);
    }
    states.insert(report.states.begin(), report.states.end());
    pictures += report.pictures;
    nested += report.nested;
    operations += report.operations;
    INFO("seed " << seed);
    if (!report.failure.empty()) std::printf("seed %lu: %s\n", seed, report.failure.c_str());
    CHECK(report.failure == "");
  }
  std::printf("%zu states, %lu pictures, %lu nested, %lu operations\n", states.size(), pictures,
              nested, operations);
}
