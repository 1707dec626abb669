// SPDX-License-Identifier: GPL-2.0-or-later
// A set of device blocks: one bitmap a space group, allocated when the group is first touched.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "base/ids.h"
#include "stablefs/format.h"

namespace stablefs {

class BlockSet {
 public:
  using Words = std::array<uint64_t, kGroupBlocks / 64>;

  explicit BlockSet(uint64_t block_count)
      : groups_((block_count + kGroupBlocks - 1) / kGroupBlocks) {}

  // True when the block was not in the set before. The block must lie on the device.
  bool insert(Lba lba) {
    auto& group = groups_.at(lba.value / kGroupBlocks);
    if (!group) group = std::make_unique<Words>();
    uint64_t& word = (*group)[lba.value % kGroupBlocks / 64];
    const uint64_t bit = 1ull << (lba.value % 64);
    const bool added = (word & bit) == 0;
    word |= bit;
    return added;
  }
  bool contains(Lba lba) const {
    const auto& group = groups_.at(lba.value / kGroupBlocks);
    return group && ((*group)[lba.value % kGroupBlocks / 64] >> (lba.value % 64) & 1) != 0;
  }
  uint64_t group_count() const { return groups_.size(); }
  // 64 blocks of a group as bits.
  uint64_t word(uint64_t group, uint64_t index) const {
    return groups_[group] ? (*groups_[group])[index] : 0;
  }

 private:
  std::vector<std::unique_ptr<Words>> groups_;
};

}  // namespace stablefs
