// SPDX-License-Identifier: GPL-2.0-or-later
// Operations on the image of a leaf (format.h: DiskNodeHeader): sorted slots grow up behind the
// header, values grow down from the end of the block. A plain view on 4096 bytes; no locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "format/key.h"
#include "format/ondisk.h"

namespace stablefs {

class Leaf {
 public:
  // `image`: 4096 bytes of a structurally valid leaf (validate_node_structure) or of clear().
  explicit Leaf(std::byte* image) : image_(image) {}

  static constexpr uint32_t kCapacityBytes = kBlockSize - sizeof(DiskNodeHeader);
  static constexpr uint32_t cost_bytes(size_t value_bytes) {
    return static_cast<uint32_t>(sizeof(DiskSlot) + value_bytes);
  }

  void clear();  // an empty leaf
  uint32_t count() const { return header().count; }
  Key key(uint32_t index) const {
    return Key(slot(index).object, slot(index).kind, slot(index).offset);
  }
  std::span<const std::byte> value(uint32_t index) const {
    return {image_ + slot(index).value_offset, slot(index).value_length};
  }
  // First index whose key is not below `key`; count() if there is none.
  uint32_t lower_bound(const Key& key) const;
  bool matches(uint32_t index, const Key& key) const {
    return index < count() && this->key(index) == key;
  }

  uint32_t used_bytes() const;  // slots and live values: what a split or merge has to move
  bool fits(size_t value_bytes) const {
    return used_bytes() + cost_bytes(value_bytes) <= kCapacityBytes;
  }

  void insert(uint32_t index, const Key& key, std::span<const std::byte> value);  // must fit
  void erase(uint32_t index);
  // Moves items [from, count()) to the end of `to`, which has room.
  void move_tail(uint32_t from, Leaf to);

 private:
  DiskNodeHeader& header() { return *reinterpret_cast<DiskNodeHeader*>(image_); }
  const DiskNodeHeader& header() const { return *reinterpret_cast<const DiskNodeHeader*>(image_); }
  DiskSlot& slot(uint32_t i) {
    return reinterpret_cast<DiskSlot*>(image_ + sizeof(DiskNodeHeader))[i];
  }
  const DiskSlot& slot(uint32_t i) const {
    return reinterpret_cast<const DiskSlot*>(image_ + sizeof(DiskNodeHeader))[i];
  }
  void compact();

  std::byte* image_;
};

}  // namespace stablefs
