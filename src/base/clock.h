// SPDX-License-Identifier: GPL-2.0-or-later
// Time is passed in: the core never reads a clock of its own, so that a simulated run replays.
#pragma once

#include <compare>
#include <cstdint>

namespace stablefs {

inline constexpr uint64_t kNsPerMs = 1'000'000;
inline constexpr uint64_t kNsPerSecond = 1'000'000'000;

struct Timestamp {
  int64_t seconds = 0;       // since 1970, may be negative
  uint32_t nanoseconds = 0;  // 0 .. 999,999,999

  auto operator<=>(const Timestamp&) const = default;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual uint64_t monotonic_ns() = 0;
  virtual Timestamp wall_time() = 0;
};

class SystemClock final : public Clock {
 public:
  // With the tick of the kernel's own file times: for a filesystem some of whose times the kernel
  // keeps. With a finer clock beside it, a file written later could have an earlier time.
  enum class WallTime : uint8_t { fine, ticks };
  explicit SystemClock(WallTime wall_time = WallTime::fine) : wall_time_(wall_time) {}
  uint64_t monotonic_ns() override;
  Timestamp wall_time() override;

 private:
  const WallTime wall_time_;
};

// A clock a test moves by hand; thread-safe through the owner's own locking only.
class ManualClock final : public Clock {
 public:
  uint64_t monotonic_ns() override { return now_ns_; }
  Timestamp wall_time() override {
    return {static_cast<int64_t>(1'700'000'000 + now_ns_ / kNsPerSecond),
            static_cast<uint32_t>(now_ns_ % kNsPerSecond)};
  }
  void advance_ns(uint64_t ns) { now_ns_ += ns; }

 private:
  uint64_t now_ns_ = kNsPerSecond;
};

}  // namespace stablefs
