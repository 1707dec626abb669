// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/ordered_extent.h"

#include "base/assert.h"
#include "base/ids.h"

namespace stablefs {

const char* to_string(OrderedState state) {
  static constexpr const char* kNames[kOrderedStates] = {"reserved", "submitted", "completed",
                                                         "committed", "failed"};
  return kNames[static_cast<size_t>(state)];
}

OrderedExtent::OrderedExtent(uint64_t first_block, uint64_t length_blocks)
    : first_block_(first_block),
      length_blocks_(length_blocks),
      bytes_left_(length_blocks * kBlockSize) {
  FS_ASSERT(length_blocks > 0);
  FS_ASSERT(length_blocks <= kMaxOrderedBlocks);
}

OrderedExtent OrderedExtent::split(uint64_t blocks) {
  FS_ASSERT(state_ == OrderedState::reserved);
  FS_ASSERT(blocks > 0);
  FS_ASSERT(blocks < length_blocks_);
  OrderedExtent rest(first_block_ + blocks, length_blocks_ - blocks);
  length_blocks_ = blocks;
  bytes_left_ = blocks * kBlockSize;
  return rest;
}

bool OrderedExtent::arrived(uint64_t bytes) {
  FS_ASSERT(state_ == OrderedState::submitted);
  FS_ASSERT(bytes <= bytes_left_);
  bytes_left_ -= bytes;
  if (bytes_left_ != 0) return false;
  set_state(OrderedState::completed);
  return true;
}

void OrderedExtent::set_state(OrderedState to) {
  FS_ASSERT(kOrderedTransitions[static_cast<size_t>(state_)][static_cast<size_t>(to)]);
  state_ = to;
}

}  // namespace stablefs
