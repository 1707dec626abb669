// SPDX-License-Identifier: GPL-2.0-or-later
// SipHash-2-4 (Aumasson, Bernstein 2012): the keyed hash of directory names. Without the key of the
// filesystem nobody can choose names that collide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace stablefs {

uint64_t siphash_2_4(const uint8_t key[16], std::span<const std::byte> data);

}  // namespace stablefs
