// SPDX-License-Identifier: GPL-2.0-or-later
// A set of numbers kept as sorted, disjoint, non-adjacent half-open intervals.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "base/assert.h"

namespace stablefs {

class IntervalSet {
 public:
  bool empty() const { return intervals_.empty(); }
  size_t interval_count() const { return intervals_.size(); }
  void clear() { intervals_.clear(); }

  void insert(uint64_t first, uint64_t end) {
    FS_ASSERT(first < end);
    auto at = intervals_.upper_bound(first);
    if (at != intervals_.begin() && std::prev(at)->second >= first) {
      --at;
      first = at->first;
    }
    while (at != intervals_.end() && at->first <= end) {
      end = std::max(end, at->second);
      at = intervals_.erase(at);
    }
    intervals_.emplace_hint(at, first, end);
  }

  void erase(uint64_t first, uint64_t end) {
    if (first >= end) return;
    auto at = intervals_.upper_bound(first);
    if (at != intervals_.begin() && std::prev(at)->second > first) --at;
    while (at != intervals_.end() && at->first < end) {
      const uint64_t old_first = at->first, old_end = at->second;
      at = intervals_.erase(at);
      if (old_first < first) intervals_.emplace_hint(at, old_first, first);
      if (old_end > end) at = intervals_.emplace_hint(at, end, old_end);
    }
  }

  bool contains(uint64_t number) const {
    const auto at = intervals_.upper_bound(number);
    return at != intervals_.begin() && std::prev(at)->second > number;
  }

  // Where the interval ends that `number` is in.
  uint64_t end_of(uint64_t number) const {
    FS_ASSERT(contains(number));
    return std::prev(intervals_.upper_bound(number))->second;
  }

  std::optional<uint64_t> lowest() const {
    if (intervals_.empty()) return std::nullopt;
    return intervals_.begin()->first;
  }

  // The lowest member that is >= number.
  std::optional<uint64_t> lowest_from(uint64_t number) const {
    if (contains(number)) return number;
    const auto at = intervals_.lower_bound(number);
    if (at == intervals_.end()) return std::nullopt;
    return at->first;
  }

  // The lowest member outside [first, end).
  std::optional<uint64_t> lowest_outside(uint64_t first, uint64_t end) const {
    const std::optional<uint64_t> low = lowest();
    if (!low || *low < first || *low >= end) return low;
    return lowest_from(end);
  }

 private:
  std::map<uint64_t, uint64_t> intervals_;  // first -> end
};

}  // namespace stablefs
