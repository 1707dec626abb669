// SPDX-License-Identifier: GPL-2.0-or-later
// The contents of a device, kept in memory: sparse, cheap to copy (blocks are shared and never
// changed in place). A block nobody wrote reads as zeros. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>

#include "base/ids.h"

namespace stablefs {

class MemoryImage {
 public:
  using Page = std::array<std::byte, kBlockSize>;
  using PageRef = std::shared_ptr<const Page>;  // null: all zeros

  explicit MemoryImage(uint64_t block_count) : block_count_(block_count) {}

  uint64_t block_count() const { return block_count_; }
  uint64_t populated_blocks() const { return pages_.size(); }

  PageRef page(Lba lba) const;
  void set_page(Lba lba, PageRef page);
  void zero(BlockRange range);

  // Whole blocks.
  void read(Lba lba, std::span<std::byte> out) const;
  void write(Lba lba, std::span<const std::byte> in);
  // Changes single bytes in place, for tests that damage an image.
  void flip_bits(uint64_t offset_bytes, std::byte mask);

  // Calls body(lba) for each populated block of the range, in order; body must not change the
  // image.
  template <class Body>
  void for_each_populated(BlockRange range, Body body) const {
    const auto end = pages_.lower_bound(range.end().value);
    for (auto it = pages_.lower_bound(range.start.value); it != end; ++it) body(Lba(it->first));
  }

  // Equal bytes, whether or not zeros are populated.
  bool operator==(const MemoryImage& other) const;

 private:
  uint64_t block_count_;
  std::map<uint64_t, PageRef> pages_;  // by LBA; ordered so that seeded choices replay
};

MemoryImage::PageRef make_page(std::span<const std::byte> block);

}  // namespace stablefs
