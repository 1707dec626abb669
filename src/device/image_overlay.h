// SPDX-License-Identifier: GPL-2.0-or-later
// Changed blocks over an image that stays as it is: many variants of one image cost only what they
// differ in. The image below must outlive the overlay and not change meanwhile. Not thread-safe.
#pragma once

#include <map>
#include <vector>

#include "base/ids.h"
#include "device/memory_image.h"

namespace stablefs {

class ImageOverlay {
 public:
  using PageRef = MemoryImage::PageRef;

  explicit ImageOverlay(const MemoryImage& base) : base_(&base) {}

  uint64_t block_count() const { return base_->block_count(); }
  const MemoryImage& base() const { return *base_; }
  // By LBA; null: the block became zeros.
  const std::map<uint64_t, PageRef>& changes() const { return changes_; }

  PageRef page(Lba lba) const;
  void set_page(Lba lba, PageRef page);
  void zero(BlockRange range);

  // Blocks of the range that may hold anything but zeros, in order.
  std::vector<Lba> populated(BlockRange range) const;
  template <class Body>
  void for_each_populated(BlockRange range, Body body) const {
    for (const Lba lba : populated(range)) body(lba);
  }

  MemoryImage flatten() const;

 private:
  const MemoryImage* base_;
  std::map<uint64_t, PageRef> changes_;
};

}  // namespace stablefs
