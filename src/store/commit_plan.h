// SPDX-License-Identifier: GPL-2.0-or-later
// Which device operations make a batch, a checkpoint and a recovery durable, in which order. Pure:
// the executors wait for each step's completion before the next (seeds 3: a flush covers only
// writes that had completed).
//
// Every flush and every FUA here has a number (see break_flush in meson_options.txt). Tests build
// the store without one of them, or with a flush that does not wait for the writes before it, and
// expect the crash tests to fail: no step is harmless to leave out.
#pragma once

#include <cstdint>
#include <vector>

namespace stablefs {

template <class Operation>
struct PlanStep {
  Operation operation{};
  bool fua = false;  // of a write: durable when it completes

  friend bool operator==(const PlanStep&, const PlanStep&) = default;
};

enum class CommitOperation : uint8_t {
  // The batch; the data it maps had completed before. Into the device's volatile cache when a flush
  // follows. FUA for a batch that maps no data: nothing else needs to reach the medium with it.
  write_batch,
  // Makes data and batch durable with one flush. A batch that survives a crash without its data is
  // found out by the checksums it carries (recovery.cc). Without this flush, or FUA, an
  // acknowledged batch may be missing after a power loss, and what it freed may be overwritten
  // while the journal still maps it.
  flush,
};
std::vector<PlanStep<CommitOperation>> plan_commit(bool maps_data);

enum class CheckpointOperation : uint8_t {
  write_nodes,
  write_bitmaps,
  write_space_table,
  // Without it: a superblock survives that refers to nodes which do not.
  flush,
  // FUA, one slot after the other: a torn write leaves the other copy of this generation, or the
  // previous generation whole. Without FUA on one of them a single copy of the generation may be
  // all there is after a power loss: when that one rots, the generation before, whose nodes are
  // reused by then, is the newest.
  write_superblock_near,
  write_superblock_far,
};
std::vector<PlanStep<CheckpointOperation>> plan_checkpoint();

enum class RecoveryOperation : uint8_t {
  // What a killed daemon left in the device's volatile cache must not be built upon and then lost.
  flush,
  replay,
  checkpoint,
};
std::vector<PlanStep<RecoveryOperation>> plan_recovery();

}  // namespace stablefs
