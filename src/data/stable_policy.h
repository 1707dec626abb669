// SPDX-License-Identifier: GPL-2.0-or-later
// What a write does to a page whose older version is being written to the device (seeds 1, P1).
// The one place where that is decided.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/histogram.h"

namespace stablefs {

enum class StablePolicy : uint8_t {
  automatic,  // the cheaper one of copy and wait, by measurement
  wait,       // always until the page has landed
  copy,       // never, as long as there is memory for a second version
  off,        // into the buffer under I/O: for measuring, and to see the detector detect
};
const char* to_string(StablePolicy policy);
// auto, wait, copy, off; nothing for other words.
std::optional<StablePolicy> parse_stable_policy(std::string_view word);

enum class RewriteAction : uint8_t {
  in_place,   // nobody else looks at the memory
  swap,       // whole page: a new buffer, nothing copied
  copy,       // partial: a new buffer that starts as a copy of the old version
  wait,       // look again when the page has landed
  overwrite,  // policy off: in place, whoever looks
};

struct RewriteFacts {
  bool whole = false;      // all bytes inside the file are replaced
  bool sealed = false;     // the newest version's memory, or a neighbour's part of it, is under I/O
  bool in_flight = false;  // the page is
  bool shadowed = false;   // in flight, and the newest version has memory of its own already
  uint64_t shadow_bytes = 0;  // memory of all pages that have two versions
  uint64_t shadow_limit_bytes = 0;
  uint64_t landing_ns = 0;  // until the page in flight has landed, as far as known
  uint64_t copy_ns = 0;     // of one page
};

RewriteAction decide_rewrite(StablePolicy policy, const RewriteFacts& facts);

// The policy in force and what it decides from: moving averages of what was measured. Thread-safe,
// lock-free; a lost update of an average does no harm.
class StableControl {
 public:
  StableControl(StablePolicy policy, uint64_t shadow_limit_bytes)
      : policy_(policy), shadow_limit_bytes_(shadow_limit_bytes) {}

  StablePolicy policy() const { return policy_.load(std::memory_order_relaxed); }
  void set_policy(StablePolicy policy) { policy_.store(policy, std::memory_order_relaxed); }

  // From submission to commit of an ordered extent.
  void note_flight(uint64_t duration_ns) { average(flight_ns_, duration_ns); }
  void note_copy(uint64_t duration_ns) { average(copy_ns_, duration_ns); }
  void note_wait(uint64_t duration_ns) { waits_ns_.add(duration_ns); }

  // Of a page that has been in flight for `elapsed_ns`.
  uint64_t landing_ns(uint64_t elapsed_ns) const;
  uint64_t flight_ns() const { return flight_ns_.load(std::memory_order_relaxed); }
  uint64_t copy_ns() const { return copy_ns_.load(std::memory_order_relaxed); }
  uint64_t shadow_limit_bytes() const { return shadow_limit_bytes_; }
  const Histogram& waits_ns() const { return waits_ns_; }

 private:
  static void average(std::atomic<uint64_t>& value, uint64_t sample);

  std::atomic<StablePolicy> policy_;
  const uint64_t shadow_limit_bytes_;
  std::atomic<uint64_t> flight_ns_{0};
  std::atomic<uint64_t> copy_ns_{0};
  Histogram waits_ns_;
};

}  // namespace stablefs
