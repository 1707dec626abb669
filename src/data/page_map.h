// SPDX-License-Identifier: GPL-2.0-or-later
// The pages of one inode, by block, in chunks. Passive: the owner's mutex guards it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "data/page.h"

namespace stablefs {

// A set of page states.
class PageStates {
 public:
  constexpr PageStates(std::initializer_list<PageState> states) {
    for (PageState state : states) bits_ |= bit(state);
  }
  constexpr bool has(PageState state) const { return (bits_ & bit(state)) != 0; }

 private:
  static constexpr uint8_t bit(PageState state) {
    return static_cast<uint8_t>(1u << static_cast<uint8_t>(state));
  }
  uint8_t bits_ = 0;
};

inline constexpr PageStates kUncommittedStates{PageState::dirty, PageState::writeback,
                                               PageState::writeback_dirty};
inline constexpr PageStates kUnsavedStates{PageState::dirty, PageState::writeback,
                                           PageState::writeback_dirty, PageState::write_failed};
inline constexpr PageStates kPresentStates{PageState::reading,         PageState::clean,
                                           PageState::dirty,           PageState::writeback,
                                           PageState::writeback_dirty, PageState::write_failed};

class PageMap {
 public:
  static constexpr uint32_t kChunkPages = 16;

  // Null when the page is absent.
  Page* find(uint64_t block);
  PageState state(uint64_t block);
  // The one function that changes a state. Returns the page, or null when it is absent now; pages
  // that become absent give up their buffer.
  Page* apply(uint64_t block, PageEvent event);

  // The lowest block >= from whose state is one of `states` (not absent).
  std::optional<uint64_t> next(uint64_t from, PageStates states) const;
  uint64_t count(PageState state) const { return counts_[static_cast<size_t>(state)]; }
  bool empty() const { return chunks_.empty(); }

  // Second chance for clean pages: marks the chunk as used, or takes the mark away and tells
  // whether there was one.
  void touch(uint64_t block);
  bool take_touched(uint64_t block);

 private:
  struct Chunk {
    std::array<Page, kChunkPages> pages;
    std::array<uint16_t, kPageStates> in_state{};  // bit i: pages[i] is in that state
    bool touched = false;
  };
  Chunk* chunk_of(uint64_t block);

  std::map<uint64_t, std::unique_ptr<Chunk>> chunks_;  // by block / kChunkPages
  uint64_t last_index_ = 0;                            // of last_chunk_: runs are common
  Chunk* last_chunk_ = nullptr;
  std::array<uint64_t, kPageStates> counts_{};  // [absent] is unused
};

}  // namespace stablefs
