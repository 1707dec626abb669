// SPDX-License-Identifier: GPL-2.0-or-later
// Directory cookies: key offset of an entry and readdir position at once.
//
// cookie = hash << 8 | ordinal: 55 bits of keyed SipHash of the name, then the lowest ordinal that
// was free when the name was added (never changed afterwards). The hash is never 0 and never all
// ones, so that cookies 0-3 ("start", ".", "..", spare) and 2^63-1 (an end mark of some readers)
// do not occur.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "format/siphash.h"
#include "stablefs/format.h"

namespace stablefs {

inline constexpr uint32_t kDirentHashBits = 55;
inline constexpr uint64_t kDirentHashMax = (1ull << kDirentHashBits) - 2;
inline constexpr uint32_t kDirentOrdinals = 1u << kDirentOrdinalBits;

// From 1 to kDirentHashMax; the two values left out fall to their neighbours.
inline uint64_t clamp_dirent_hash(uint64_t hash) {
  if (hash == 0) return 1;
  return hash > kDirentHashMax ? kDirentHashMax : hash;
}

inline uint64_t dirent_hash(const uint8_t seed[16], std::string_view name) {
  const auto bytes = std::as_bytes(std::span(name.data(), name.size()));
  return clamp_dirent_hash(siphash_2_4(seed, bytes) >> (64 - kDirentHashBits));
}

constexpr uint64_t dirent_cookie(uint64_t hash, uint32_t ordinal) {
  return hash << kDirentOrdinalBits | ordinal;
}
constexpr uint64_t hash_of_cookie(uint64_t cookie) {
  return cookie >> kDirentOrdinalBits;
}
constexpr uint32_t ordinal_of_cookie(uint64_t cookie) {
  return static_cast<uint32_t>(cookie & (kDirentOrdinals - 1));
}

}  // namespace stablefs
