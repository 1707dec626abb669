// SPDX-License-Identifier: GPL-2.0-or-later
// The accounting of one ordered extent: blocks of a file on their way to the device, mapped by one
// transaction once all of them have arrived. Passive: no lock, no I/O.
//
// It covers exactly the bytes of one submission: whatever was reserved beyond is split off before.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stablefs {

enum class OrderedState : uint8_t {
  reserved,   // pages are taken; blocks may still be missing
  submitted,  // I/O is under way
  completed,  // every byte has arrived
  committed,  // mapped
  failed,     // blocks given back, old mapping kept
};
inline constexpr size_t kOrderedStates = 5;
const char* to_string(OrderedState state);

// A transaction must not wait for journal space beyond what was reserved, so it must be bounded.
inline constexpr uint64_t kMaxOrderedBlocks = 1024;

// [from][to]
inline constexpr bool kOrderedTransitions[kOrderedStates][kOrderedStates] = {
    /*              reserved submitted completed committed failed */
    /* reserved  */ {false, true, false, false, true},
    /* submitted */ {false, false, true, false, true},
    /* completed */ {false, false, false, true, true},
    /* committed */ {false, false, false, false, false},
    /* failed    */ {false, false, false, false, false},
};

class OrderedExtent {
 public:
  OrderedExtent(uint64_t first_block, uint64_t length_blocks);

  OrderedState state() const { return state_; }
  uint64_t first_block() const { return first_block_; }
  uint64_t length_blocks() const { return length_blocks_; }
  uint64_t end_block() const { return first_block_ + length_blocks_; }
  uint64_t bytes_left() const { return bytes_left_; }
  bool overlaps(uint64_t first_block, uint64_t end_block) const {
    return first_block < this->end_block() && first_block_ < end_block;
  }

  // Keeps the first `blocks`; returns what is behind them as an extent of its own.
  OrderedExtent split(uint64_t blocks);
  void submit() { set_state(OrderedState::submitted); }
  // Part of the I/O has arrived. True exactly once: when nothing is left; completed then.
  bool arrived(uint64_t bytes);
  void commit() { set_state(OrderedState::committed); }
  void fail() { set_state(OrderedState::failed); }

 private:
  void set_state(OrderedState to);

  OrderedState state_ = OrderedState::reserved;
  uint64_t first_block_;
  uint64_t length_blocks_;
  uint64_t bytes_left_;
};

}  // namespace stablefs
