// SPDX-License-Identifier: GPL-2.0-or-later
// Values of items: validation (the same function before a write and after a read) and text.
#pragma once

#include <span>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "format/key.h"
#include "integrity/tuple.h"
#include "stablefs/format.h"

namespace stablefs {

// item_invalid, with key and reason, when `value` cannot be the value of `key`: length, ranges,
// reserved bytes, flags. Does not look at other items.
Status validate_item(const Key& key, std::span<const std::byte> value, Interval interval);

// One line for people debugging: "inode 12: mode 100644 size 4096 ...".
std::string item_to_text(const Key& key, std::span<const std::byte> value, Interval interval);
std::string key_to_text(const Key& key);

const char* to_string(DamageKind kind);

inline Timestamp from_disk(const DiskTime& time) {
  return {static_cast<int64_t>(uint64_t{time.seconds}), time.nanoseconds};
}
inline DiskTime to_disk(const Timestamp& time) {
  return {static_cast<uint64_t>(time.seconds), time.nanoseconds};
}

}  // namespace stablefs
