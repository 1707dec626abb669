// SPDX-License-Identifier: GPL-2.0-or-later
// Distinct integer types for the numbers that must never be mixed up.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace stablefs {

inline constexpr uint32_t kBlockSize = 4096;  // bytes; the only logical block size that is built
inline constexpr uint32_t kBlockShift = 12;

template <class Tag>
struct Id {
  uint64_t value = 0;

  constexpr Id() = default;
  constexpr explicit Id(uint64_t v) : value(v) {}
  constexpr auto operator<=>(const Id&) const = default;
  constexpr Id operator+(uint64_t n) const { return Id(value + n); }
  constexpr Id operator-(uint64_t n) const { return Id(value - n); }
  constexpr uint64_t operator-(Id other) const { return value - other.value; }
  constexpr Id& operator++() {
    ++value;
    return *this;
  }
};

using Ino = Id<struct InoTag>;                // inode number; root is 1, 0 is no inode
using Lba = Id<struct LbaTag>;                // device block number, in 4 KiB blocks; 0 is no block
using FileBlock = Id<struct FileBlockTag>;    // block index within a file, in 4 KiB blocks
using Sequence = Id<struct SequenceTag>;      // transaction number, from 1, never reused
using Generation = Id<struct GenerationTag>;  // checkpoint number, from 1

inline constexpr Ino kRootIno{1};

// A run of device blocks [start, start + length_blocks).
struct BlockRange {
  Lba start;
  uint64_t length_blocks = 0;

  constexpr Lba end() const { return start + length_blocks; }
  constexpr bool operator==(const BlockRange&) const = default;
};

constexpr uint64_t blocks_for_bytes(uint64_t bytes) {
  return bytes / kBlockSize + (bytes % kBlockSize != 0);
}

}  // namespace stablefs

template <class Tag>
struct std::hash<stablefs::Id<Tag>> {
  size_t operator()(const stablefs::Id<Tag>& id) const noexcept {
    return std::hash<uint64_t>{}(id.value * 0x9E3779B97F4A7C15ull);
  }
};
