// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "store/commit_plan.h"

using namespace stablefs;

TEST_CASE("a batch that maps data is followed by one flush, another is written with FUA",
          "[store][plan]") {
  using enum CommitOperation;
  CHECK(plan_commit(true) ==
        std::vector<PlanStep<CommitOperation>>{{write_batch, false}, {flush, false}});
  CHECK(plan_commit(false) == std::vector<PlanStep<CommitOperation>>{{write_batch, true}});
}

TEST_CASE("a checkpoint flushes all it wrote before a superblock names it", "[store][plan]") {
  using enum CheckpointOperation;
  const auto plan = plan_checkpoint();
  REQUIRE(plan.size() == 6);
  CHECK(plan[3].operation == flush);
  CHECK(plan[4] == PlanStep<CheckpointOperation>{write_superblock_near, true});
  CHECK(plan[5] == PlanStep<CheckpointOperation>{write_superblock_far, true});
}

TEST_CASE("recovery flushes before it reads, and serves after its own checkpoint",
          "[store][plan]") {
  using enum RecoveryOperation;
  CHECK(plan_recovery() ==
        std::vector<PlanStep<RecoveryOperation>>{{flush}, {replay}, {checkpoint}});
}
