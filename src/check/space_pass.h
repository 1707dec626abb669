// SPDX-License-Identifier: GPL-2.0-or-later
// What items and nodes use against what the space maps say, in both directions; tuples and
// reference items against the blocks they describe.
#pragma once

#include "check/ledger.h"
#include "check/reporter.h"
#include "store/store.h"

namespace stablefs {

class SpacePass {
 public:
  // `nodes`: of the checkpoint's tree. `replayed`: the journal changed the tree in memory since.
  SpacePass(Store& store, const BlockSet& nodes, bool replayed, Reporter& reporter,
            const Ledger& ledger);

  // `complete`: every item and node was seen, so that what nobody refers to is a leak.
  void run(bool complete);

 private:
  void collect_live_nodes();
  void compare_group(uint32_t group, bool complete);
  void compare_unwritten();
  void compare_tuples();
  void compare_references();

  Store& store_;
  const DiskSuperblock& superblock_;
  const BlockSet& nodes_;
  const bool replayed_;
  Reporter& reporter_;
  const Ledger& ledger_;
  BlockSet fixed_;
  BlockSet live_nodes_;  // nodes of the checkpoint that the tree still has after the replay
};

}  // namespace stablefs
