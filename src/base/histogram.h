// SPDX-License-Identifier: GPL-2.0-or-later
// Durations by magnitude: bucket i counts those below 1 us * 4^i, the last one all that are longer.
// Lock-free.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace stablefs {

class Histogram {
 public:
  static constexpr size_t kBuckets = 11;

  void add(uint64_t duration_ns) {
    size_t bucket = 0;
    while (bucket + 1 < kBuckets && duration_ns >= bound_ns(bucket)) ++bucket;
    buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
    total_ns_.fetch_add(duration_ns, std::memory_order_relaxed);
  }
  uint64_t count(size_t bucket) const { return buckets_[bucket].load(std::memory_order_relaxed); }
  uint64_t total_ns() const { return total_ns_.load(std::memory_order_relaxed); }
  // What bucket i stays below; the last one is open.
  static constexpr uint64_t bound_ns(size_t bucket) { return 1000ull << (2 * bucket); }

 private:
  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> total_ns_{0};
};

}  // namespace stablefs
