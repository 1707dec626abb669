// SPDX-License-Identifier: GPL-2.0-or-later
// Small helpers of the format layer: checksums with a hole, zero tests, escaped text.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/endian.h"
#include "integrity/tuple.h"

namespace stablefs {

// CRC32C of `bytes` with the le32 at `hole_offset` taken as zero.
inline uint32_t crc32c_with_hole(uint32_t seed, std::span<const std::byte> bytes,
                                 size_t hole_offset) {
  const std::byte zero[sizeof(le32)] = {};
  uint32_t crc = crc32c(seed, bytes.first(hole_offset));
  crc = crc32c(crc, zero);
  return crc32c(crc, bytes.subspan(hole_offset + sizeof zero));
}

inline bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}
template <class T>
bool all_zero_bytes(const T& object) {
  return all_zero(std::as_bytes(std::span<const T, 1>(&object, 1)));
}

// Text for a terminal: control characters, backslashes and bytes above 126 as \xNN.
std::string escape_text(std::string_view raw);

}  // namespace stablefs
