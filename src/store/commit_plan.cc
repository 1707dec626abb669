// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/commit_plan.h"

#include <algorithm>

namespace stablefs {
namespace {

enum class Damage : int {
  none = 0,
  commit_flush = 1,
  commit_fua = 2,
  checkpoint_flush = 3,
  near_superblock_fua = 4,
  far_superblock_fua = 5,
  recovery_flush = 6,
  // To the device, a flush that does not wait for a write comes before it.
  commit_does_not_wait = 7,
  checkpoint_does_not_wait = 8,
};
constexpr auto kDamage = static_cast<Damage>(STABLEFS_BREAK_FLUSH);

template <class Operation>
using Plan = std::vector<PlanStep<Operation>>;

template <class Operation>
void leave_out_flush(Plan<Operation>& plan, Damage damage) {
  if (kDamage != damage) return;
  std::erase_if(plan, [](const auto& step) { return step.operation == Operation::flush; });
}

template <class Operation>
void leave_out_fua(Plan<Operation>& plan, Operation operation, Damage damage) {
  if (kDamage != damage) return;
  for (auto& step : plan) {
    if (step.operation == operation) step.fua = false;
  }
}

template <class Operation>
void flush_too_early(Plan<Operation>& plan, Damage damage) {
  if (kDamage != damage) return;
  const auto flush = std::find_if(plan.begin(), plan.end(), [](const auto& step) {
    return step.operation == Operation::flush;
  });
  if (flush != plan.end()) std::rotate(plan.begin(), flush, flush + 1);
}

}  // namespace

std::vector<PlanStep<CommitOperation>> plan_commit(bool maps_data) {
  using enum CommitOperation;
  Plan<CommitOperation> plan = {{write_batch, !maps_data}};
  if (maps_data) plan.push_back({flush});
  leave_out_flush(plan, Damage::commit_flush);
  leave_out_fua(plan, write_batch, Damage::commit_fua);
  flush_too_early(plan, Damage::commit_does_not_wait);
  return plan;
}

std::vector<PlanStep<CheckpointOperation>> plan_checkpoint() {
  using enum CheckpointOperation;
  Plan<CheckpointOperation> plan = {
      {write_nodes},
      {write_bitmaps},
      {write_space_table},
      {flush},
      {write_superblock_near, true},
      {write_superblock_far, true},
  };
  leave_out_flush(plan, Damage::checkpoint_flush);
  leave_out_fua(plan, write_superblock_near, Damage::near_superblock_fua);
  leave_out_fua(plan, write_superblock_far, Damage::far_superblock_fua);
  flush_too_early(plan, Damage::checkpoint_does_not_wait);
  return plan;
}

std::vector<PlanStep<RecoveryOperation>> plan_recovery() {
  using enum RecoveryOperation;
  Plan<RecoveryOperation> plan = {{flush}, {replay}, {checkpoint}};
  leave_out_flush(plan, Damage::recovery_flush);
  return plan;
}

}  // namespace stablefs
