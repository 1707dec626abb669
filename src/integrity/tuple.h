// SPDX-License-Identifier: GPL-2.0-or-later
// T10 protection information: an 8-byte tuple per protection interval.
//
// Guard: CRC-16, polynomial 0x8BB7, seed 0 ("123456789" gives 0xD0DB; T10 SBC-4). Type 1: the
// reference tag is the low 32 bits of the address of the interval, counted in intervals. Pure
// functions on spans; no locks, no I/O.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/endian.h"
#include "base/ids.h"

namespace stablefs {

struct Tuple {
  be16 guard;
  be16 app_tag;
  be32 reference_tag;
};
static_assert(sizeof(Tuple) == 8);

// Application tag that switches every check off in Types 1 and 2: never accepted on mapped blocks.
inline constexpr uint16_t kEscapeAppTag = 0xFFFF;

// Bytes one tuple protects.
enum class Interval : uint32_t { block_4096 = 4096, sector_512 = 512 };

constexpr uint32_t tuples_per_block(Interval interval) {
  return kBlockSize / static_cast<uint32_t>(interval);
}

uint16_t crc16_t10dif(std::span<const std::byte> data);
uint32_t crc32c(uint32_t seed, std::span<const std::byte> data);  // Castagnoli, ISA-L; seed 0 first

// Fills one tuple per interval of `blocks` (a multiple of 4096 bytes that lands at `lba`).
void generate_tuples(std::span<const std::byte> blocks, Lba lba, Interval interval,
                     uint16_t app_tag, std::span<Tuple> out);

// The same tuples at another address: reference tags recomputed, guards and app tags carried.
void move_tuples(std::span<Tuple> tuples, Lba to, Interval interval);

enum class MismatchKind : uint8_t { guard, app_tag, reference_tag };
const char* to_string(MismatchKind kind);

struct Mismatch {
  MismatchKind kind;
  uint64_t offset_bytes;  // of the interval, from the start of the span
  Lba lba;
  uint32_t expected;
  uint32_t found;
};

// First mismatch between `blocks`, read from `lba`, and the tuples kept for them; nothing if all
// is well. Order of checks within an interval: reference tag, app tag, guard.
std::optional<Mismatch> verify_tuples(std::span<const std::byte> blocks, Lba lba, Interval interval,
                                      std::span<const Tuple> tuples);

}  // namespace stablefs
