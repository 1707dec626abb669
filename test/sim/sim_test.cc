// SPDX-License-Identifier: GPL-2.0-or-later
// Random workloads, crashed anywhere, against the persistence contract.
//
//   STABLEFS_SEED=N       moves the seeds (scripts/test soak)
//   STABLEFS_SIM_SEEDS=N  how many
//   STABLEFS_SIM_SEED=N   with '[replay]': one seed, as a failure prints it
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/sync.h"
#include "sim/crew.h"
#include "sim/minimise.h"
#include "sim/run.h"

using namespace stablefs;
using namespace stablefs::sim;

namespace {

constexpr uint64_t kShards = 4;
constexpr uint64_t kSeedsDefault = 1200;
constexpr uint64_t kSeedsAsked = 1000;  // with fewer, nothing is asked of the number of states
constexpr uint64_t kStatesAsked = 20'000;
constexpr uint64_t kSeedStride = 1'000'000;  // seeds of one STABLEFS_SEED
constexpr uint64_t kMinimiserRunsMax = 300;
constexpr uint64_t kTwiceOneIn = 20;
constexpr size_t kFailuresMax = 3;

// Each of these found a bug once.
constexpr uint64_t kRegressionSeeds[] = {
    6,       10,
    11,  // fsync of a clean file left other threads' operations behind
    15,      229,
    267,  // a truncation left extents beyond the end of the file
    400,  // the zeroed rest of the last block was forgotten while the file grew over it
    412,     523,
    846,  // syncfs beside a truncation: neither the data nor the truncation was durable
    229,     7005389,  // a truncation in progress: the size covered bytes it had dropped
    9001323, 9005025,
    9007846,  // sync beside a truncation: the size was held back by a hole
};

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

struct Totals {
  uint64_t seeds = 0, pictures = 0, nested = 0, operations = 0;
  std::set<uint64_t> states;

  void add(const RunReport& report) {
    ++seeds;
    pictures += report.pictures;
    nested += report.nested;
    operations += report.operations;
    states.insert(report.states.begin(), report.states.end());
  }
  void add(const Totals& other) {
    seeds += other.seeds;
    pictures += other.pictures;
    nested += other.nested;
    operations += other.operations;
    states.insert(other.states.begin(), other.states.end());
  }
  std::string text() const {
    return fmt::format(
        "{} seeds, {} operations, {} crashes ({} more during a recovery), "
        "{} distinct crash states",
        seeds, operations, pictures, nested, states.size());
  }
};
// Of all shards, for the last case to judge.
Totals all_shards;
uint64_t shards_run = 0;

uint64_t seed_count() {
  return number_from("STABLEFS_SIM_SEEDS", std::max<uint64_t>(kSeedsDefault / slowness(), 40));
}

// What a failing seed comes down to, and how to see it again.
std::string explain(const Environment& environment, uint64_t seed) {
  std::printf("seed %lu fails; leaving operations out ...\n", seed);
  std::fflush(stdout);
  const Minimised least = minimise(environment, {.seed = seed}, kMinimiserRunsMax / slowness());
  return fmt::format("seed {}, after {} runs of the minimiser:\n{}\nreplay: {}", seed, least.runs,
                     least.report.failure, replay_command(least.options));
}

Totals run_seeds(const Environment& environment, const std::vector<uint64_t>& seeds) {
  Totals totals;
  std::vector<std::string> failures;
  Mutex mutex{LockRank::leaf, "totals"};
  share_jobs(seeds.size(), [&](uint64_t number) {
    const uint64_t seed = seeds[number];
    const RunReport report = run_seed(environment, {.seed = seed});
    std::string failure;
    if (!report.failure.empty()) {
      failure = explain(environment, seed);
    } else if (seed % kTwiceOneIn == 0 &&
               run_seed(environment, {.seed = seed}).digest != report.digest) {
      failure = fmt::format("seed {} went two ways", seed);
    }
    MutexLock lock(mutex);
    totals.add(report);
    if (!failure.empty()) failures.push_back(failure);
    return failures.size() < kFailuresMax;
  });
  for (const std::string& failure : failures) {
    std::printf("%s\n", failure.c_str());
    UNSCOPED_INFO(failure);
  }
  CHECK(failures.empty());
  return totals;
}

void run_shard(uint64_t shard) {
  keep_freed_memory();
  const Environment environment;
  const uint64_t first = number_from("STABLEFS_SEED", 0) * kSeedStride + 1;
  std::vector<uint64_t> seeds;
  for (uint64_t i = shard; i < seed_count(); i += kShards) seeds.push_back(first + i);
  const Totals totals = run_seeds(environment, seeds);
  std::printf("shard %lu: %s\n", shard, totals.text().c_str());
  all_shards.add(totals);
  ++shards_run;
}

}  // namespace

TEST_CASE("crashes anywhere keep the persistence contract, shard 0", "[sim]") {
  run_shard(0);
}
TEST_CASE("crashes anywhere keep the persistence contract, shard 1", "[sim]") {
  run_shard(1);
}
TEST_CASE("crashes anywhere keep the persistence contract, shard 2", "[sim]") {
  run_shard(2);
}
TEST_CASE("crashes anywhere keep the persistence contract, shard 3", "[sim]") {
  run_shard(3);
}

TEST_CASE("the shards together saw many distinct crash states", "[sim]") {
  if (shards_run != kShards) return;  // not all were asked for
  std::printf("in all: %s\n", all_shards.text().c_str());
  if (seed_count() >= kSeedsAsked) CHECK(all_shards.states.size() >= kStatesAsked);
}

TEST_CASE("seeds that once found a bug find none", "[sim]") {
  const Environment environment;
  run_seeds(environment, {std::begin(kRegressionSeeds), std::end(kRegressionSeeds)});
}

TEST_CASE("one seed is replayed", "[.][replay]") {
  const auto options = replay_options();
  REQUIRE(options.has_value());
  const Environment environment;
  const RunReport report = run_seed(environment, *options);
  std::printf("%lu choices, %lu operations, %lu crashes, digest %016lx\n%s\n", report.choices,
              report.operations, report.pictures, report.digest, report.failure.c_str());
  CHECK(report.failure.empty());
}
