// SPDX-License-Identifier: GPL-2.0-or-later
// What may still be done after an error of the device (P7): the one state machine that store, data
// and fs ask. It never goes back to a better state; a mount that failed ends by unmounting.
//
// Two kinds of errors. Data that could not be written is lost for its file alone: metadata and the
// data of other files are whole, and can still be made durable. A failed flush, journal or
// checkpoint write leaves unknown what the device holds of all that was not durable before: from
// then on nothing is written or acknowledged, under every policy. A failed flush is never tried
// again, because the device may have forgotten the second time what it lost the first time.
//
// Lack of space is neither. Errors of reads go to whoever reads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/sync.h"

namespace stablefs {

// errors= of a mount.
enum class ErrorPolicy : uint8_t { remount_read_only, go_on, abort };
inline constexpr size_t kErrorPolicies = 3;

enum class HealthState : uint8_t {
  healthy,
  losing,     // data was lost and told; everything goes on (errors=continue)
  read_only,  // data was lost: no new changes, but what was accepted is still made durable
  halted,     // flush, journal or checkpoint failed: nothing is written any more; reads go on
  aborted,    // nothing is served (errors=abort)
  stopped,    // by whoever runs it: unmounted or shut down
};
inline constexpr size_t kHealthStates = 6;

enum class HealthEvent : uint8_t {
  data_lost,      // accepted data could not be written or mapped
  commit_failed,  // flush, journal or checkpoint
  stop,
};
inline constexpr size_t kHealthEvents = 3;

enum class Activity : uint8_t {
  serve,   // reads, lookups
  change,  // accepting anything new
  commit,  // making durable what was accepted, and acknowledging that it is
};
inline constexpr size_t kActivities = 3;

constexpr const char* to_string(HealthState state) {
  constexpr std::array<const char*, kHealthStates> names = {"healthy", "losing",  "read-only",
                                                            "halted",  "aborted", "stopped"};
  return names[static_cast<size_t>(state)];
}

namespace health_table {
inline constexpr uint8_t h = 0, l = 1, r = 2, x = 3, a = 4, s = 5;
// [event][policy]; columns in the order of HealthState.
inline constexpr uint8_t next[kHealthEvents][kErrorPolicies][kHealthStates] = {
    {
        /* data_lost               healthy losing read_only halted aborted stopped */
        /* remount_read_only */ {r, r, r, x, a, s},
        /* go_on             */ {l, l, r, x, a, s},
        /* abort             */ {a, a, a, a, a, s},
    },
    {
        /* commit_failed */
        /* remount_read_only */ {x, x, x, x, a, s},
        /* go_on             */ {x, x, x, x, a, s},
        /* abort             */ {a, a, a, a, a, s},
    },
    {
        /* stop */
        /* remount_read_only */ {s, s, s, s, s, s},
        /* go_on             */ {s, s, s, s, s, s},
        /* abort             */ {s, s, s, s, s, s},
    },
};
inline constexpr bool allowed[kActivities][kHealthStates] = {
    /*           healthy losing read_only halted aborted stopped */
    /* serve  */ {true, true, true, true, false, false},
    /* change */ {true, true, false, false, false, false},
    /* commit */ {true, true, true, false, false, false},
};
}  // namespace health_table

constexpr HealthState next_health_state(ErrorPolicy policy, HealthEvent event, HealthState state) {
  return static_cast<HealthState>(health_table::next[static_cast<size_t>(
      event)][static_cast<size_t>(policy)][static_cast<size_t>(state)]);
}
constexpr bool health_allows(Activity activity, HealthState state) {
  return health_table::allowed[static_cast<size_t>(activity)][static_cast<size_t>(state)];
}

struct HealthOptions {
  ErrorPolicy policy = ErrorPolicy::remount_read_only;
  Clock* clock = nullptr;
  Logger* logger = nullptr;
  // Once, on entering `aborted`, by any thread, perhaps under locks: to tell somebody, no more.
  std::function<void()> on_abort{};
};

class Health {
 public:
  explicit Health(HealthOptions options);

  HealthState state() const { return state_.load(std::memory_order_acquire); }
  bool allows(Activity activity) const { return health_allows(activity, state()); }
  // The error for a caller that wants to do this.
  Status check(Activity activity) const;

  // The new state holds before this returns.
  void report(HealthEvent event, const Error& error);
  void stop() { report(HealthEvent::stop, ErrorCode::shut_down); }

  // Pieces of data lost so far: whoever remembers the number knows later whether there were more.
  uint64_t losses() const { return losses_.load(std::memory_order_acquire); }

  struct Cause {
    Error error;
    Timestamp when;
    HealthState state;  // that it led to
  };
  // The error that led to the present state, or to the one it was stopped in.
  std::optional<Cause> cause() const;

 private:
  const HealthOptions options_;
  std::atomic<HealthState> state_{HealthState::healthy};
  std::atomic<uint64_t> losses_{0};
  mutable Mutex mutex_{LockRank::leaf, "health"};
  std::optional<Cause> cause_ FS_GUARDED_BY(mutex_);
};

}  // namespace stablefs
