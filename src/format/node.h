// SPDX-License-Identifier: GPL-2.0-or-later
// Images of tree nodes: sealing and validation. A leaf's image is also its form in memory.
#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/result.h"
#include "format/key.h"
#include "format/ondisk.h"

namespace stablefs {

inline constexpr uint32_t kMaxChildren =
    (kBlockSize - sizeof(DiskNodeHeader)) / sizeof(DiskChild);  // 72

inline constexpr uint32_t kMaxTreeLevel = 15;

// Where a node is on disk and how to know it (native form of DiskNodePointer).
struct NodeAddress {
  Lba lba[2];  // [1] is 0 with copies=1
  Generation generation;
  uint32_t checksum = 0;

  bool assigned() const { return lba[0].value != 0; }
  bool operator==(const NodeAddress&) const = default;
};
NodeAddress from_disk(const DiskNodePointer& pointer);
DiskNodePointer to_disk(const NodeAddress& address);

inline Key from_disk(const DiskKey& key) {
  return Key(key.object, key.kind, key.offset);
}
inline Key from_disk(const DiskSlot& slot) {
  return Key(slot.object, slot.kind, slot.offset);
}
DiskKey to_disk(const Key& key);

// Writes identity and checksum into the header and returns the checksum.
uint32_t seal_node(std::span<std::byte> image, const NodeAddress& address);

// Structure of a node image: header fields, key order, slots inside the block and not overlapping
// the heap, values that do not overlap, `heap_garbage` exact. In an inner node heap_start and
// heap_garbage are 0. Everything but identity and checksum; memory-safe on any bytes.
Status validate_node_structure(std::span<const std::byte> image);
// After a read: checksum, identity (address, generation, level), then structure.
Status validate_node(std::span<const std::byte> image, const NodeAddress& address,
                     uint32_t expected_level);

}  // namespace stablefs
