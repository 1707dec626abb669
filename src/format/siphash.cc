// SPDX-License-Identifier: GPL-2.0-or-later
#include "format/siphash.h"

#include <bit>
#include <cstring>

#include "base/endian.h"

namespace stablefs {
namespace {

uint64_t load_le64(const void* from) {
  le64 word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

struct State {
  uint64_t v0, v1, v2, v3;

  State(uint64_t k0, uint64_t k1)
      : v0(k0 ^ 0x736F6D6570736575ull),
        v1(k1 ^ 0x646F72616E646F6Dull),
        v2(k0 ^ 0x6C7967656E657261ull),
        v3(k1 ^ 0x7465646279746573ull) {}

  void round() {
    v0 += v1;
    v2 += v3;
    v1 = std::rotl(v1, 13) ^ v0;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 = std::rotl(v0, 32);
    v2 += v1;
    v0 += v3;
    v1 = std::rotl(v1, 17) ^ v2;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 = std::rotl(v2, 32);
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

}  // namespace

uint64_t siphash_2_4(const uint8_t key[16], std::span<const std::byte> data) {
  State state(load_le64(key), load_le64(key + 8));
  const size_t whole = data.size() & ~size_t{7};
  for (size_t at = 0; at < whole; at += 8) state.absorb(load_le64(data.data() + at));
  uint64_t last = static_cast<uint64_t>(data.size()) << 56;
  for (size_t at = whole; at < data.size(); ++at) {
    last |= std::to_integer<uint64_t>(data[at]) << (8 * (at - whole));
  }
  state.absorb(last);
  state.v2 ^= 0xFF;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace stablefs
