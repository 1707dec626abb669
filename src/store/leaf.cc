// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/leaf.h"

#include <array>
#include <cstring>

#include "base/assert.h"

namespace stablefs {

void Leaf::clear() {
  std::memset(image_, 0, kBlockSize);
  header().magic = kNodeMagic;
  header().heap_start = static_cast<uint16_t>(kBlockSize);
}

uint32_t Leaf::lower_bound(const Key& key) const {
  uint32_t low = 0, high = count();
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (this->key(middle) < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

uint32_t Leaf::used_bytes() const {
  return count() * sizeof(DiskSlot) + (kBlockSize - header().heap_start) - header().heap_garbage;
}

void Leaf::insert(uint32_t index, const Key& key, std::span<const std::byte> value) {
  FS_ASSERT(index <= count());
  FS_ASSERT(fits(value.size()));
  uint32_t slots_end = sizeof(DiskNodeHeader) + (count() + 1) * sizeof(DiskSlot);
  if (header().heap_start < slots_end + value.size()) compact();
  uint32_t at = header().heap_start - static_cast<uint32_t>(value.size());
  FS_ASSERT(at >= slots_end);
  if (!value.empty()) std::memcpy(image_ + at, value.data(), value.size());
  header().heap_start = static_cast<uint16_t>(at);
  std::memmove(&slot(index + 1), &slot(index), (count() - index) * sizeof(DiskSlot));
  DiskSlot fresh{};
  fresh.object = key.object;
  fresh.offset = key.offset;
  fresh.kind = key.kind;
  fresh.value_offset = static_cast<uint16_t>(at);
  fresh.value_length = static_cast<uint16_t>(value.size());
  slot(index) = fresh;
  header().count = static_cast<uint16_t>(count() + 1);
}

void Leaf::erase(uint32_t index) {
  FS_ASSERT(index < count());
  uint32_t at = slot(index).value_offset, length = slot(index).value_length;
  if (at == header().heap_start) {
    header().heap_start = static_cast<uint16_t>(at + length);
  } else {
    header().heap_garbage = static_cast<uint16_t>(header().heap_garbage + length);
  }
  std::memmove(&slot(index), &slot(index + 1), (count() - index - 1) * sizeof(DiskSlot));
  std::memset(&slot(count() - 1), 0, sizeof(DiskSlot));
  header().count = static_cast<uint16_t>(count() - 1);
  if (count() == 0) {
    header().heap_start = static_cast<uint16_t>(kBlockSize);
    header().heap_garbage = 0;
  }
}

void Leaf::compact() {
  std::array<std::byte, kBlockSize> copy;
  std::memcpy(copy.data(), image_, kBlockSize);
  uint32_t at = kBlockSize;
  for (uint32_t i = 0; i < count(); ++i) {
    uint32_t length = slot(i).value_length;
    at -= length;
    std::memcpy(image_ + at, copy.data() + slot(i).value_offset, length);
    slot(i).value_offset = static_cast<uint16_t>(at);
  }
  uint32_t slots_end = sizeof(DiskNodeHeader) + count() * sizeof(DiskSlot);
  std::memset(image_ + slots_end, 0, at - slots_end);
  header().heap_start = static_cast<uint16_t>(at);
  header().heap_garbage = 0;
}

void Leaf::move_tail(uint32_t from, Leaf to) {
  FS_ASSERT(from <= count());
  for (uint32_t i = from; i < count(); ++i) to.insert(to.count(), key(i), value(i));
  while (count() > from) erase(count() - 1);
}

}  // namespace stablefs
