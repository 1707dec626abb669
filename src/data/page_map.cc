// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/page_map.h"

#include <bit>

namespace stablefs {

PageMap::Chunk* PageMap::chunk_of(uint64_t block) {
  const uint64_t index = block / kChunkPages;
  if (last_chunk_ != nullptr && last_index_ == index) return last_chunk_;
  const auto at = chunks_.find(index);
  if (at == chunks_.end()) return nullptr;
  last_index_ = index;
  last_chunk_ = at->second.get();
  return last_chunk_;
}

Page* PageMap::find(uint64_t block) {
  Chunk* chunk = chunk_of(block);
  if (chunk == nullptr) return nullptr;
  Page& page = chunk->pages[block % kChunkPages];
  return page.state == PageState::absent ? nullptr : &page;
}

PageState PageMap::state(uint64_t block) {
  const Page* page = find(block);
  return page == nullptr ? PageState::absent : page->state;
}

Page* PageMap::apply(uint64_t block, PageEvent event) {
  const PageState from = state(block);
  const PageState to = next_page_state(from, event);
  if (from == PageState::absent && to == PageState::absent) return nullptr;

  Chunk* chunk = chunk_of(block);
  if (chunk == nullptr) {
    last_index_ = block / kChunkPages;
    last_chunk_ = chunks_.emplace(last_index_, std::make_unique<Chunk>()).first->second.get();
    chunk = last_chunk_;
  }
  Page& page = chunk->pages[block % kChunkPages];
  page.state = to;
  const auto bit = static_cast<uint16_t>(1u << (block % kChunkPages));
  if (from != PageState::absent) {
    chunk->in_state[static_cast<size_t>(from)] &= static_cast<uint16_t>(~bit);
    --counts_[static_cast<size_t>(from)];
  }
  if (to != PageState::absent) {
    chunk->in_state[static_cast<size_t>(to)] |= bit;
    ++counts_[static_cast<size_t>(to)];
    return &page;
  }

  page.buffer = BufferSlice();
  page.dirty_stamp = page.flight_stamp = 0;
  page.waiters = 0;
  uint16_t present = 0;
  for (uint16_t mask : chunk->in_state) present |= mask;
  if (present == 0) {
    chunks_.erase(block / kChunkPages);
    last_chunk_ = nullptr;
  }
  return nullptr;
}

std::optional<uint64_t> PageMap::next(uint64_t from, PageStates states) const {
  for (auto at = chunks_.lower_bound(from / kChunkPages); at != chunks_.end(); ++at) {
    uint32_t mask = 0;
    for (size_t state = 0; state < kPageStates; ++state) {
      if (states.has(static_cast<PageState>(state))) mask |= at->second->in_state[state];
    }
    if (at->first == from / kChunkPages) mask &= ~0u << (from % kChunkPages);
    if (mask != 0) {
      return at->first * kChunkPages + static_cast<uint64_t>(std::countr_zero(mask));
    }
  }
  return std::nullopt;
}

void PageMap::touch(uint64_t block) {
  if (Chunk* chunk = chunk_of(block)) chunk->touched = true;
}

bool PageMap::take_touched(uint64_t block) {
  Chunk* chunk = chunk_of(block);
  if (chunk == nullptr || !chunk->touched) return false;
  chunk->touched = false;
  return true;
}

}  // namespace stablefs
