// SPDX-License-Identifier: GPL-2.0-or-later
// A seeded pseudo-random generator (splitmix64): the same on every machine, unlike <random>.
#pragma once

#include <cstdint>

namespace stablefs {

class Prng {
 public:
  explicit Prng(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  // Uniform enough for tests: 0 .. bound - 1; bound must not be 0.
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool chance(uint64_t one_in) { return below(one_in) == 0; }

 private:
  uint64_t state_;
};

}  // namespace stablefs
