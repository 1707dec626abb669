// SPDX-License-Identifier: GPL-2.0-or-later
#include "device/memory_image.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace stablefs {
namespace {

const MemoryImage::Page kZeroPage{};

const MemoryImage::Page& contents(const MemoryImage::PageRef& page) {
  return page ? *page : kZeroPage;
}

}  // namespace

MemoryImage::PageRef make_page(std::span<const std::byte> block) {
  FS_ASSERT(block.size() == kBlockSize);
  auto page = std::make_shared<MemoryImage::Page>();
  std::memcpy(page->data(), block.data(), kBlockSize);
  return page;
}

MemoryImage::PageRef MemoryImage::page(Lba lba) const {
  const auto it = pages_.find(lba.value);
  return it == pages_.end() ? nullptr : it->second;
}

void MemoryImage::set_page(Lba lba, PageRef page) {
  FS_ASSERT(lba.value < block_count_);
  if (page) {
    pages_[lba.value] = std::move(page);
  } else {
    pages_.erase(lba.value);
  }
}

void MemoryImage::zero(BlockRange range) {
  pages_.erase(pages_.lower_bound(range.start.value), pages_.lower_bound(range.end().value));
}

void MemoryImage::read(Lba lba, std::span<std::byte> out) const {
  FS_ASSERT(out.size() % kBlockSize == 0);
  for (; !out.empty(); out = out.subspan(kBlockSize), ++lba) {
    std::memcpy(out.data(), contents(page(lba)).data(), kBlockSize);
  }
}

void MemoryImage::write(Lba lba, std::span<const std::byte> in) {
  FS_ASSERT(in.size() % kBlockSize == 0);
  for (; !in.empty(); in = in.subspan(kBlockSize), ++lba) {
    set_page(lba, make_page(in.first(kBlockSize)));
  }
}

void MemoryImage::flip_bits(uint64_t offset_bytes, std::byte mask) {
  const Lba lba(offset_bytes / kBlockSize);
  auto changed = std::make_shared<Page>(contents(page(lba)));
  (*changed)[offset_bytes % kBlockSize] ^= mask;
  set_page(lba, std::move(changed));
}

bool MemoryImage::operator==(const MemoryImage& other) const {
  if (block_count_ != other.block_count_) return false;
  const auto covers = [](const MemoryImage& a, const MemoryImage& b) {
    return std::all_of(a.pages_.begin(), a.pages_.end(), [&b](const auto& entry) {
      const PageRef counterpart = b.page(Lba(entry.first));
      return entry.second == counterpart || contents(entry.second) == contents(counterpart);
    });
  };
  return covers(*this, other) && covers(other, *this);
}

}  // namespace stablefs
