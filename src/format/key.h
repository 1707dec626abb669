// SPDX-License-Identifier: GPL-2.0-or-later
// The key of an item: order is object, kind, offset.
#pragma once

#include <compare>
#include <cstdint>

#include "base/ids.h"
#include "stablefs/format.h"

namespace stablefs {

struct Key {
  uint64_t object = 0;
  uint8_t kind = 0;
  uint64_t offset = 0;

  constexpr Key() = default;
  constexpr Key(uint64_t o, uint8_t k, uint64_t off) : object(o), kind(k), offset(off) {}
  constexpr Key(Ino ino, ItemKind k, uint64_t off)
      : object(ino.value), kind(static_cast<uint8_t>(k)), offset(off) {}
  constexpr auto operator<=>(const Key&) const = default;

  static constexpr Key global(ItemKind k, uint64_t off) {
    return Key(kGlobalObject, static_cast<uint8_t>(k), off);
  }
  static constexpr Key minimum() { return Key(0, 0, 0); }
  static constexpr Key maximum() { return Key(~0ull, 0xFF, ~0ull); }
};

}  // namespace stablefs
