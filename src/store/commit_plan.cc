// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/commit_plan.h"

namespace stablefs {

std::vector<CommitStep> plan_commit(bool maps_data) {
  if (!maps_data) return {CommitStep::write_batch_fua};
  return {CommitStep::write_batch, CommitStep::flush_batch};
}

std::vector<CheckpointStep> plan_checkpoint() {
  return {CheckpointStep::write_nodes,
          CheckpointStep::write_bitmaps,
          CheckpointStep::write_space_table,
          CheckpointStep::flush_checkpoint,
          CheckpointStep::write_superblock_near_fua,
          CheckpointStep::write_superblock_far_fua};
}

}  // namespace stablefs
