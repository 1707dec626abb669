// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/clock.h"

#include <ctime>

namespace stablefs {

uint64_t SystemClock::monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

Timestamp SystemClock::wall_time() {
  timespec now{};
  clock_gettime(wall_time_ == WallTime::fine ? CLOCK_REALTIME : CLOCK_REALTIME_COARSE, &now);
  return {now.tv_sec, static_cast<uint32_t>(now.tv_nsec)};
}

}  // namespace stablefs
