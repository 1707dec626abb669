// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "format/dirent.h"

using namespace stablefs;

TEST_CASE("SipHash-2-4 gives the published answers", "[format]") {
  uint8_t key[16];
  for (uint8_t i = 0; i < 16; ++i) key[i] = i;
  std::vector<std::byte> data;
  auto hash_of = [&](size_t length) {
    data.clear();
    for (size_t i = 0; i < length; ++i) data.push_back(static_cast<std::byte>(i));
    return siphash_2_4(key, data);
  };
  CHECK(hash_of(0) == 0x726FDB47DD0E0E31ull);
  CHECK(hash_of(1) == 0x74F839C593DC67FDull);
  CHECK(hash_of(8) == 0x93F5F5799A932462ull);
  CHECK(hash_of(15) == 0xA129CA6149BE45E5ull);
  CHECK(hash_of(63) == 0x958A324CEB064572ull);
}

TEST_CASE("the hash of a name depends on the seed", "[format]") {
  const uint8_t one[16] = {1};
  const uint8_t two[16] = {2};
  CHECK(dirent_hash(one, "name") != dirent_hash(two, "name"));
  CHECK(dirent_hash(one, "name") != dirent_hash(one, "nama"));
}

TEST_CASE("no cookie is one of the reserved values", "[format]") {
  CHECK(clamp_dirent_hash(0) == 1);
  CHECK(clamp_dirent_hash(1) == 1);
  CHECK(clamp_dirent_hash((1ull << 55) - 1) == (1ull << 55) - 2);
  CHECK(clamp_dirent_hash((1ull << 55) - 2) == (1ull << 55) - 2);
  CHECK(dirent_cookie(clamp_dirent_hash(0), 0) > 3);
  CHECK(dirent_cookie(clamp_dirent_hash(~0ull), 255) < (1ull << 63) - 1);
  const uint8_t seed[16] = {};
  for (int i = 0; i < 10000; ++i) {
    const uint64_t hash = dirent_hash(seed, std::to_string(i));
    REQUIRE(hash >= 1);
    REQUIRE(hash <= kDirentHashMax);
    REQUIRE(hash_of_cookie(dirent_cookie(hash, 17)) == hash);
    REQUIRE(ordinal_of_cookie(dirent_cookie(hash, 17)) == 17);
  }
}
