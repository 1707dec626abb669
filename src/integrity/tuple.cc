// SPDX-License-Identifier: GPL-2.0-or-later
#include "integrity/tuple.h"

#include <isa-l/crc.h>

#include <algorithm>

#include "base/assert.h"

namespace stablefs {
namespace {

constexpr size_t bytes_of(Interval interval) {
  return static_cast<size_t>(interval);
}

// The low 32 bits of the address, in intervals, of the first interval of a block. Wrapping at 2^32
// is what Type 1 prescribes.
uint32_t reference_of(Lba lba, Interval interval) {
  return static_cast<uint32_t>(lba.value * tuples_per_block(interval));
}

void check_shape(size_t data_bytes, size_t tuples, Interval interval) {
  FS_ASSERT(data_bytes % kBlockSize == 0);
  FS_ASSERT(tuples == data_bytes / bytes_of(interval));
}

}  // namespace

uint16_t crc16_t10dif(std::span<const std::byte> data) {
  return ::crc16_t10dif(0, reinterpret_cast<const unsigned char*>(data.data()), data.size());
}

uint32_t crc32c(uint32_t seed, std::span<const std::byte> data) {
  // ISA-L neither inverts nor keeps const, and its length is an int; inverting on both sides makes
  // calls chain, so long data is cut into pieces.
  constexpr size_t kPieceBytes = size_t{1} << 30;
  uint32_t crc = ~seed;
  while (!data.empty()) {
    const auto piece = data.first(std::min(data.size(), kPieceBytes));
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(piece.data()));
    crc = crc32_iscsi(bytes, static_cast<int>(piece.size()), crc);
    data = data.subspan(piece.size());
  }
  return ~crc;
}

void generate_tuples(std::span<const std::byte> blocks, Lba lba, Interval interval,
                     uint16_t app_tag, std::span<Tuple> out) {
  check_shape(blocks.size(), out.size(), interval);
  FS_ASSERT(app_tag != kEscapeAppTag);
  uint32_t reference = reference_of(lba, interval);
  for (Tuple& tuple : out) {
    tuple.guard = crc16_t10dif(blocks.first(bytes_of(interval)));
    tuple.app_tag = app_tag;
    tuple.reference_tag = reference++;
    blocks = blocks.subspan(bytes_of(interval));
  }
}

void move_tuples(std::span<Tuple> tuples, Lba to, Interval interval) {
  uint32_t reference = reference_of(to, interval);
  for (Tuple& tuple : tuples) tuple.reference_tag = reference++;
}

const char* to_string(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::guard:
      return "guard";
    case MismatchKind::app_tag:
      return "app tag";
    case MismatchKind::reference_tag:
      return "reference tag";
  }
  return "unknown";
}

std::optional<Mismatch> verify_tuples(std::span<const std::byte> blocks, Lba lba, Interval interval,
                                      std::span<const Tuple> tuples) {
  check_shape(blocks.size(), tuples.size(), interval);
  uint32_t reference = reference_of(lba, interval);
  for (size_t i = 0; i < tuples.size(); ++i, ++reference) {
    const Tuple& tuple = tuples[i];
    const uint64_t offset_bytes = i * bytes_of(interval);
    const Lba block = lba + offset_bytes / kBlockSize;
    if (tuple.reference_tag != reference) {
      return Mismatch{MismatchKind::reference_tag, offset_bytes, block, reference,
                      tuple.reference_tag};
    }
    if (tuple.app_tag == kEscapeAppTag) {
      return Mismatch{MismatchKind::app_tag, offset_bytes, block, 0, kEscapeAppTag};
    }
    const uint16_t guard = crc16_t10dif(blocks.subspan(offset_bytes, bytes_of(interval)));
    if (tuple.guard != guard) {
      return Mismatch{MismatchKind::guard, offset_bytes, block, guard, tuple.guard};
    }
  }
  return std::nullopt;
}

}  // namespace stablefs
