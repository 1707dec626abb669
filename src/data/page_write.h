// SPDX-License-Identifier: GPL-2.0-or-later
// What writing through the cache and past it have in common: which bytes go into which page.
#pragma once

#include <algorithm>
#include <cstring>

#include "data/file_impl.h"

namespace stablefs {

// Payloads from here on give us their pages; smaller ones are cheaper copied than pinned.
inline constexpr size_t kAdoptBytes = 128 * 1024;

// Bytes [offset, end) on their way into pages.
struct FileImpl::PageWrite {
  uint64_t offset = 0;
  uint64_t end = 0;
  std::span<const std::byte> data;  // empty: zeros
  BufferSlice whole;                // content of pages [whole_first, whole_end)
  uint64_t whole_first = 0;
  uint64_t whole_end = 0;
  bool extends = true;  // the size follows; else only an edge of the last page is zeroed
  OwnedBlocks owned;    // by more than a write ticket
  SpaceReservation promise;
  uint64_t in_place_end = 0;  // blocks below it are unwritten: no promise is needed
  uint64_t written_end = 0;   // up to here it is done

  uint64_t first_block() const { return offset / kBlockSize; }
  uint64_t end_block() const { return blocks_for_bytes(end); }
  uint64_t from_in(uint64_t block) const {
    return std::max(offset, block * kBlockSize) - block * kBlockSize;
  }
  uint64_t to_in(uint64_t block) const {
    return std::min(end, (block + 1) * kBlockSize) - block * kBlockSize;
  }
  // What is in flight makes the block a written one.
  bool needs_promise(uint64_t block, PageState state) const {
    return !page_is_dirty(state) && (block >= in_place_end || page_in_flight(state));
  }
  bool has_whole(uint64_t block) const { return block >= whole_first && block < whole_end; }
  void copy_into(std::span<std::byte> page, uint64_t block) const {
    const std::span<std::byte> to = page.subspan(from_in(block), to_in(block) - from_in(block));
    if (data.empty()) {
      std::memset(to.data(), 0, to.size());
    } else {
      std::memcpy(to.data(), data.data() + (block * kBlockSize + from_in(block) - offset),
                  to.size());
    }
  }
  // The old content of the page does not matter: nothing of it stays inside the file.
  bool covers(uint64_t block, uint64_t size) const {
    if (block * kBlockSize >= size) return true;
    return from_in(block) == 0 && (to_in(block) == kBlockSize || end >= size);
  }
};

}  // namespace stablefs
