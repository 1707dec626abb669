// SPDX-License-Identifier: GPL-2.0-or-later
// Known answers of the checksums, and every field of a tuple damaged.
#include <catch2/catch.hpp>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/prng.h"
#include "integrity/tuple.h"

using namespace stablefs;

namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::byte> random_blocks(uint64_t seed, size_t blocks) {
  Prng prng(seed);
  std::vector<std::byte> data(blocks * kBlockSize);
  for (auto& b : data) b = static_cast<std::byte>(prng.next());
  return data;
}

// The definition, bit by bit, as the reference for the library's vector code.
uint16_t slow_crc16(std::span<const std::byte> data) {
  uint16_t crc = 0;
  for (std::byte b : data) {
    crc ^= static_cast<uint16_t>(static_cast<uint16_t>(b) << 8);
    for (int bit = 0; bit < 8; ++bit) {
      crc = static_cast<uint16_t>((crc & 0x8000) ? (crc << 1) ^ 0x8BB7 : crc << 1);
    }
  }
  return crc;
}

uint32_t slow_crc32c(std::span<const std::byte> data) {
  uint32_t crc = ~0u;
  for (std::byte b : data) {
    crc ^= static_cast<uint32_t>(b);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

struct Guarded {
  std::vector<std::byte> data;
  std::vector<Tuple> tuples;
};

Guarded guarded(size_t blocks, Lba lba, Interval interval) {
  Guarded g{random_blocks(lba.value, blocks), {}};
  g.tuples.resize(blocks * tuples_per_block(interval));
  generate_tuples(g.data, lba, interval, 0x1234, g.tuples);
  return g;
}

const Interval kIntervals[] = {Interval::block_4096, Interval::sector_512};

}  // namespace

TEST_CASE("the guard is the T10 CRC") {
  CHECK(crc16_t10dif(bytes("123456789")) == 0xD0DB);
  CHECK(crc16_t10dif({}) == 0);
  // SBC-4's examples for 32 bytes: all zeros, all ones, counting up.
  std::vector<std::byte> data(32, std::byte{0});
  CHECK(crc16_t10dif(data) == 0x0000);
  data.assign(32, std::byte{0xFF});
  CHECK(crc16_t10dif(data) == 0xA293);
  for (int i = 0; i < 32; ++i) data[i] = static_cast<std::byte>(i);
  CHECK(crc16_t10dif(data) == 0x0224);
}

TEST_CASE("the library's checksums equal their definitions at every length") {
  const auto data = random_blocks(1, 1);
  for (size_t length = 0; length <= 600; ++length) {
    const auto part = std::span(data).subspan(length % 7, length);
    REQUIRE(crc16_t10dif(part) == slow_crc16(part));
    REQUIRE(crc32c(0, part) == slow_crc32c(part));
  }
  CHECK(crc16_t10dif(data) == slow_crc16(data));
  CHECK(crc32c(0, data) == slow_crc32c(data));
}

TEST_CASE("crc32c is Castagnoli's and chains") {
  CHECK(crc32c(0, bytes("123456789")) == 0xE3069283);
  CHECK(crc32c(0, {}) == 0);
  for (size_t cut = 0; cut <= 9; ++cut) {
    const auto text = bytes("123456789");
    CHECK(crc32c(crc32c(0, text.first(cut)), text.subspan(cut)) == 0xE3069283);
  }
}

TEST_CASE("a tuple is stored big-endian: guard, app tag, reference tag") {
  std::vector<std::byte> block(kBlockSize);
  std::memcpy(block.data() + kBlockSize - 9, "123456789", 9);  // leading zeros leave seed 0 alone
  Tuple tuple;
  generate_tuples(block, Lba(0x01020304), Interval::block_4096, 0xABCD, {&tuple, 1});
  const unsigned char expected[] = {0xD0, 0xDB, 0xAB, 0xCD, 0x01, 0x02, 0x03, 0x04};
  CHECK(std::memcmp(&tuple, expected, sizeof expected) == 0);
}

TEST_CASE("what was generated verifies") {
  for (Interval interval : kIntervals) {
    const Guarded g = guarded(5, Lba(77), interval);
    CHECK_FALSE(verify_tuples(g.data, Lba(77), interval, g.tuples));
  }
  CHECK_FALSE(verify_tuples({}, Lba(1), Interval::block_4096, {}));
}

TEST_CASE("every flipped bit of the data is a guard mismatch in its interval") {
  for (Interval interval : kIntervals) {
    const uint64_t interval_bytes = static_cast<uint64_t>(interval);
    Guarded g = guarded(3, Lba(1000), interval);
    for (size_t offset = 0; offset < g.data.size(); offset += 211) {
      const std::byte flip{static_cast<unsigned char>(1u << (offset % 8))};
      g.data[offset] ^= flip;
      const auto mismatch = verify_tuples(g.data, Lba(1000), interval, g.tuples);
      g.data[offset] ^= flip;
      REQUIRE(mismatch);
      REQUIRE(mismatch->kind == MismatchKind::guard);
      REQUIRE(mismatch->offset_bytes == offset / interval_bytes * interval_bytes);
      REQUIRE(mismatch->lba == Lba(1000 + offset / kBlockSize));
      REQUIRE(mismatch->expected != mismatch->found);
    }
  }
}

TEST_CASE("every flipped bit of a guard or reference tag is a mismatch of that kind") {
  for (Interval interval : kIntervals) {
    const Guarded g = guarded(2, Lba(42), interval);
    for (size_t i = 0; i < g.tuples.size(); ++i) {
      for (int bit = 0; bit < 32; ++bit) {
        auto tuples = g.tuples;
        tuples[i].reference_tag = tuples[i].reference_tag ^ (1u << bit);
        const auto mismatch = verify_tuples(g.data, Lba(42), interval, tuples);
        REQUIRE(mismatch);
        REQUIRE(mismatch->kind == MismatchKind::reference_tag);
        REQUIRE(mismatch->offset_bytes == i * static_cast<uint64_t>(interval));
      }
      for (int bit = 0; bit < 16; ++bit) {
        auto tuples = g.tuples;
        tuples[i].guard = static_cast<uint16_t>(tuples[i].guard ^ (1u << bit));
        const auto mismatch = verify_tuples(g.data, Lba(42), interval, tuples);
        REQUIRE(mismatch);
        REQUIRE(mismatch->kind == MismatchKind::guard);
      }
    }
  }
}

TEST_CASE("the escape application tag is never accepted") {
  for (Interval interval : kIntervals) {
    Guarded g = guarded(2, Lba(42), interval);
    g.tuples.back().app_tag = kEscapeAppTag;
    const auto mismatch = verify_tuples(g.data, Lba(42), interval, g.tuples);
    REQUIRE(mismatch);
    CHECK(mismatch->kind == MismatchKind::app_tag);
    CHECK(mismatch->found == kEscapeAppTag);
    CHECK(mismatch->lba == Lba(43));
  }
}

TEST_CASE("other application tags are the owner's and pass") {
  Guarded g = guarded(1, Lba(42), Interval::block_4096);
  g.tuples[0].app_tag = 0xFFFE;
  CHECK_FALSE(verify_tuples(g.data, Lba(42), Interval::block_4096, g.tuples));
}

TEST_CASE("data of another address is a reference tag mismatch until its tuples are moved") {
  for (Interval interval : kIntervals) {
    Guarded g = guarded(4, Lba(10), interval);
    const auto mismatch = verify_tuples(g.data, Lba(11), interval, g.tuples);
    REQUIRE(mismatch);
    CHECK(mismatch->kind == MismatchKind::reference_tag);
    const uint16_t guard_before = g.tuples[1].guard;
    move_tuples(g.tuples, Lba(11), interval);
    CHECK_FALSE(verify_tuples(g.data, Lba(11), interval, g.tuples));
    CHECK(g.tuples[1].guard == guard_before);
    CHECK(g.tuples[1].app_tag == 0x1234);
  }
}

TEST_CASE("the reference tag wraps at 2^32 intervals") {
  Guarded g = guarded(2, Lba(0xFFFF'FFFF), Interval::block_4096);
  CHECK(g.tuples[0].reference_tag == 0xFFFF'FFFF);
  CHECK(g.tuples[1].reference_tag == 0);
  CHECK_FALSE(verify_tuples(g.data, Lba(0xFFFF'FFFF), Interval::block_4096, g.tuples));
  CHECK_FALSE(verify_tuples(g.data, Lba(0x1'FFFF'FFFF), Interval::block_4096, g.tuples));

  const Guarded sectors = guarded(2, Lba(0x1FFF'FFFF), Interval::sector_512);
  CHECK(sectors.tuples[7].reference_tag == 0xFFFF'FFFF);
  CHECK(sectors.tuples[8].reference_tag == 0);
  CHECK_FALSE(verify_tuples(sectors.data, Lba(0x1FFF'FFFF), Interval::sector_512, sectors.tuples));
}

TEST_CASE("tuples and data verify in any split between blocks") {
  for (Interval interval : kIntervals) {
    const Guarded g = guarded(4, Lba(500), interval);
    const size_t per_block = tuples_per_block(interval);
    for (size_t first = 0; first <= 4; ++first) {
      for (size_t end = first; end <= 4; ++end) {
        const auto data = std::span(g.data).subspan(first * kBlockSize, (end - first) * kBlockSize);
        const auto tuples =
            std::span(g.tuples).subspan(first * per_block, (end - first) * per_block);
        CHECK_FALSE(verify_tuples(data, Lba(500 + first), interval, tuples));
      }
    }
  }
}
