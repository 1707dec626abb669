// SPDX-License-Identifier: GPL-2.0-or-later
// Which device operations make a batch and a checkpoint durable, in which order. Pure: the
// executors wait for each step's completion before the next (seeds 3: a flush covers only writes
// that had completed).
#pragma once

#include <cstdint>
#include <vector>

namespace stablefs {

enum class CommitStep : uint8_t {
  // The batch, into the device's volatile cache. The data it maps had completed before.
  write_batch,
  // Makes data and batch durable with one flush. A batch that survives a crash without its data is
  // found out by the checksums it carries (recovery.cc). Without this flush an acknowledged batch
  // may be missing after a power loss, and what it freed may be overwritten while the journal
  // still maps it.
  flush_batch,
  // For a batch that maps no data: nothing else needs to reach the medium with it. Without FUA:
  // as without flush_batch.
  write_batch_fua,
};
std::vector<CommitStep> plan_commit(bool maps_data);

enum class CheckpointStep : uint8_t {
  write_nodes,
  write_bitmaps,
  write_space_table,
  // Without it: a superblock survives that refers to nodes which do not.
  flush_checkpoint,
  // FUA, one slot after the other: a torn write leaves the other copy of this generation, or the
  // previous generation whole. Without FUA on both, nodes of the older generation are reused while
  // its superblock is still the newest one on the medium.
  write_superblock_near_fua,
  write_superblock_far_fua,
};
std::vector<CheckpointStep> plan_checkpoint();

}  // namespace stablefs
