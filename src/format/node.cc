// SPDX-License-Identifier: GPL-2.0-or-later
// Tree node images: sealing, and validation that is safe on arbitrary bytes.
#include "format/node.h"

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "base/assert.h"
#include "format/bytes.h"

namespace stablefs {
namespace {

Error bad(const char* what) {
  return Error(ErrorCode::node_fields, what);
}

// Which bytes of the block belong to a value: finds values that overlap.
class ByteMap {
 public:
  // False when one of the bytes was taken already.
  bool take(uint32_t start, uint32_t length) {
    uint32_t at = start;
    const uint32_t end = start + length;
    bool unique = true;
    while (at < end) {
      const uint32_t bit = at % 64;
      const uint32_t count = std::min(64 - bit, end - at);
      const uint64_t mask = (count == 64 ? ~0ull : ((1ull << count) - 1)) << bit;
      unique = unique && (words_[at / 64] & mask) == 0;
      words_[at / 64] |= mask;
      at += count;
    }
    return unique;
  }

 private:
  std::array<uint64_t, kBlockSize / 64> words_{};
};

Status validate_leaf(std::span<const std::byte> image, const DiskNodeHeader& header) {
  const uint32_t heap_start = header.heap_start;
  const uint32_t slots_end = sizeof(DiskNodeHeader) + uint32_t{header.count} * sizeof(DiskSlot);
  if (heap_start > kBlockSize || slots_end > heap_start) return bad("slots overlap the heap");
  const auto* slots = reinterpret_cast<const DiskSlot*>(image.data() + sizeof(DiskNodeHeader));
  ByteMap taken;
  uint32_t value_bytes = 0;
  Key previous;
  for (uint32_t i = 0; i < header.count; ++i) {
    const DiskSlot& slot = slots[i];
    const uint32_t start = slot.value_offset;
    const uint32_t length = slot.value_length;
    if (slot.reserved[0] != 0 || slot.reserved[1] != 0 || slot.reserved[2] != 0) {
      return bad("reserved bytes of a slot are not zero");
    }
    if (length > kMaxValueBytes) return bad("a value is too long");
    if (start + length > kBlockSize || (length != 0 && start < heap_start)) {
      return bad("a value lies outside the heap");
    }
    if (!taken.take(start, length)) return bad("values overlap");
    value_bytes += length;
    const Key key = from_disk(slot);
    if (i != 0 && key <= previous) return ErrorCode::node_order;
    previous = key;
  }
  if (value_bytes + header.heap_garbage != kBlockSize - heap_start) {
    return bad("garbage count of the heap");
  }
  return {};
}

Status validate_inner(std::span<const std::byte> image, const DiskNodeHeader& header) {
  if (header.count == 0 || header.count > kMaxChildren) return bad("number of children");
  if (header.heap_start != 0 || header.heap_garbage != 0) return bad("an inner node has no heap");
  const auto* children = reinterpret_cast<const DiskChild*>(image.data() + sizeof(DiskNodeHeader));
  Key previous;
  for (uint32_t i = 0; i < header.count; ++i) {
    const DiskChild& child = children[i];
    if (child.pointer.reserved != 0 || !all_zero_bytes(child.key.reserved)) {
      return bad("reserved bytes of a child are not zero");
    }
    if (child.pointer.lba[0] == 0 || child.pointer.lba[0] == child.pointer.lba[1]) {
      return bad("address of a child");
    }
    if (child.pointer.generation == 0) return bad("generation of a child");
    const Key key = from_disk(child.key);
    if (i != 0 && key <= previous) return ErrorCode::node_order;
    previous = key;
  }
  return {};
}

const DiskNodeHeader& header_of(std::span<const std::byte> image) {
  return *reinterpret_cast<const DiskNodeHeader*>(image.data());
}

}  // namespace

NodeAddress from_disk(const DiskNodePointer& pointer) {
  NodeAddress address;
  address.lba[0] = Lba(pointer.lba[0]);
  address.lba[1] = Lba(pointer.lba[1]);
  address.generation = Generation(pointer.generation);
  address.checksum = pointer.checksum;
  return address;
}

DiskNodePointer to_disk(const NodeAddress& address) {
  DiskNodePointer pointer;
  pointer.lba[0] = address.lba[0].value;
  pointer.lba[1] = address.lba[1].value;
  pointer.generation = address.generation.value;
  pointer.checksum = address.checksum;
  pointer.reserved = 0;
  return pointer;
}

DiskKey to_disk(const Key& key) {
  DiskKey disk{};
  disk.object = key.object;
  disk.offset = key.offset;
  disk.kind = key.kind;
  return disk;
}

uint32_t seal_node(std::span<std::byte> image, const NodeAddress& address) {
  FS_ASSERT(image.size() == kBlockSize);
  FS_ASSERT(address.assigned());
  auto& header = *reinterpret_cast<DiskNodeHeader*>(image.data());
  header.magic = kNodeMagic;
  header.generation = address.generation.value;
  header.lba[0] = address.lba[0].value;
  header.lba[1] = address.lba[1].value;
  header.checksum = crc32c_with_hole(0, image, offsetof(DiskNodeHeader, checksum));
  return header.checksum;
}

Status validate_node_structure(std::span<const std::byte> image) {
  if (image.size() != kBlockSize) return bad("not a whole block");
  const DiskNodeHeader& header = header_of(image);
  if (header.magic != kNodeMagic) return ErrorCode::node_magic;
  if (header.level > kMaxTreeLevel) return bad("level");
  if (header.reserved0 != 0 || !all_zero_bytes(header.reserved)) {
    return bad("reserved bytes are not zero");
  }
  return header.level == 0 ? validate_leaf(image, header) : validate_inner(image, header);
}

Status validate_node(std::span<const std::byte> image, const NodeAddress& address,
                     uint32_t expected_level) {
  if (image.size() != kBlockSize) return bad("not a whole block");
  const DiskNodeHeader& header = header_of(image);
  if (header.magic != kNodeMagic) return ErrorCode::node_magic;
  const uint32_t checksum = crc32c_with_hole(0, image, offsetof(DiskNodeHeader, checksum));
  if (header.checksum != checksum) return ErrorCode::node_checksum;
  if (header.lba[0] != address.lba[0].value || header.lba[1] != address.lba[1].value ||
      header.generation != address.generation.value) {
    return Error(ErrorCode::node_identity,
                 fmt::format("block {} generation {} holds the node of block {} generation {}",
                             address.lba[0].value, address.generation.value,
                             uint64_t{header.lba[0]}, uint64_t{header.generation}));
  }
  if (header.level != expected_level) {
    return Error(ErrorCode::node_identity,
                 fmt::format("level {} instead of {}", header.level, expected_level));
  }
  if (checksum != address.checksum) {
    return Error(ErrorCode::node_checksum, "not the contents its parent refers to");
  }
  FS_TRY(validate_node_structure(image));
  if (header.level == 0) return {};
  const auto* children = reinterpret_cast<const DiskChild*>(image.data() + sizeof(DiskNodeHeader));
  for (uint32_t i = 0; i < header.count; ++i) {
    // Changing a node changes every node above it, so nothing below can be newer.
    if (children[i].pointer.generation > header.generation) {
      return bad("a child is newer than its parent");
    }
    if ((children[i].pointer.lba[1] == 0) != (address.lba[1].value == 0)) {
      return bad("number of copies of a child");
    }
  }
  return {};
}

}  // namespace stablefs
