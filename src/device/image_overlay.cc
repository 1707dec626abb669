// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/image_overlay.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace stablefs {

MemoryImage::PageRef ImageOverlay::page(Lba lba) const {
  const auto it = changes_.find(lba.value);
  return it == changes_.end() ? base_->page(lba) : it->second;
}

void ImageOverlay::set_page(Lba lba, PageRef page) {
  FS_ASSERT(lba.value < block_count());
  changes_[lba.value] = std::move(page);
}

void ImageOverlay::zero(BlockRange range) {
  for (const Lba lba : populated(range)) changes_[lba.value] = nullptr;
}

std::vector<Lba> ImageOverlay::populated(BlockRange range) const {
  std::vector<Lba> below, changed, all;
  base_->for_each_populated(range, [&](Lba lba) {
    if (!changes_.contains(lba.value)) below.push_back(lba);
  });
  const auto end = changes_.lower_bound(range.end().value);
  for (auto it = changes_.lower_bound(range.start.value); it != end; ++it) {
    if (it->second) changed.push_back(Lba(it->first));
  }
  std::ranges::merge(below, changed, std::back_inserter(all));
  return all;
}

MemoryImage ImageOverlay::flatten() const {
  MemoryImage image = *base_;
  for (const auto& [lba, page] : changes_) image.set_page(Lba(lba), page);
  return image;
}

}  // namespace stablefs
