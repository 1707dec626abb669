// SPDX-License-Identifier: GPL-2.0-or-later
// The passes that read the device without a store: superblock slots, journal chain, the tree of the
// checkpoint, its space table and bitmaps.
#pragma once

#include <vector>

#include "check/block_set.h"
#include "check/raw.h"
#include "check/reporter.h"

namespace stablefs {

// Keys of the subtree below a node that cannot be read: not looked at any further.
struct KeyRange {
  Key low;
  std::optional<Key> high;  // first key behind
};

class DevicePass {
 public:
  DevicePass(BlockDevice& device, const DiskSuperblock& superblock, Reporter& reporter)
      : device_(device),
        superblock_(superblock),
        reporter_(reporter),
        nodes_(superblock.block_count) {}

  void check_slots(const std::vector<SuperblockSlot>& slots);
  void check_journal();
  void check_tree();
  void check_space();

  // Blocks of all nodes of the checkpoint's tree that could be reached.
  const BlockSet& nodes() const { return nodes_; }
  const std::vector<KeyRange>& damaged() const { return damaged_; }
  bool tree_sound() const { return tree_sound_; }

 private:
  bool find_later_batch(const JournalEnd& end, Sequence& durable);
  void check_node(const RawNode& node);
  void check_keys(const RawNode& node);
  void check_bitmap(uint32_t group, const DiskSpaceEntry& entry);

  BlockDevice& device_;
  const DiskSuperblock& superblock_;
  Reporter& reporter_;
  BlockSet nodes_;
  std::vector<KeyRange> damaged_;
  bool tree_sound_ = true;
};

}  // namespace stablefs
