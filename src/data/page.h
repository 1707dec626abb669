// SPDX-License-Identifier: GPL-2.0-or-later
// The states of one cached page and which event leads from one to another: one table, one function
// that changes a state. Passive: no lock, no I/O.
//
// A page in writeback is never modified: a write gives it a new buffer (writeback_dirty) and the
// old one stays with the I/O. The next writeback of a page starts only after the previous one has
// ended, so two versions are never in flight at once.
#pragma once

#include <array>
#include <cstdint>

#include "base/assert.h"
#include "data/buffer.h"

namespace stablefs {

enum class PageState : uint8_t {
  absent,           // the device has the newest version
  reading,          // somebody reads it from the device
  clean,            // same as on the device (but zero beyond the end of the file)
  dirty,            // newer than the device
  writeback,        // the newest version is in flight
  writeback_dirty,  // an older version is in flight
  write_failed,     // newest version, lost for the device; readable, not retried by itself
};
inline constexpr size_t kPageStates = 7;

enum class PageEvent : uint8_t {
  read_start,
  read_done,
  read_failed,
  write_part,   // also zeroing an edge
  write_whole,  // all bytes of the page that are inside the file
  submit,
  write_done,    // committed, not only arrived
  write_failed,  // I/O or commit
  remove,        // truncated or punched away; in flight: only what had not been submitted
  direct_over,   // a direct write replaces the whole page
  drop,          // memory is wanted
};
inline constexpr size_t kPageEvents = 11;

constexpr const char* to_string(PageState state) {
  constexpr std::array<const char*, kPageStates> names = {
      "absent", "reading", "clean", "dirty", "writeback", "writeback_dirty", "write_failed"};
  return names[static_cast<size_t>(state)];
}

namespace page_table {
inline constexpr uint8_t a = 0, r = 1, c = 2, d = 3, w = 4, wd = 5, f = 6, X = 0xFF;  // X: illegal
// Columns in the order of PageState. A partial write needs the old bytes first (not from absent or
// reading). What is in flight cannot be removed: who removes waits for its ordered extent.
inline constexpr uint8_t next[kPageEvents][kPageStates] = {
    /*               absent reading clean dirty writeback writeback_dirty write_failed */
    /* read_start   */ {r, X, X, X, X, X, X},
    /* read_done    */ {X, c, X, X, X, X, X},
    /* read_failed  */ {X, a, X, X, X, X, X},
    /* write_part   */ {X, X, d, d, wd, wd, d},
    /* write_whole  */ {d, d, d, d, wd, wd, d},
    /* submit       */ {X, X, X, w, X, X, X},
    /* write_done   */ {X, X, X, X, c, d, X},
    /* write_failed */ {X, X, X, X, f, d, X},
    /* remove       */ {a, a, a, a, X, w, a},
    /* direct_over  */ {a, X, a, a, X, X, a},
    /* drop         */ {X, X, a, X, X, X, X},
};
}  // namespace page_table

constexpr bool page_event_legal(PageState state, PageEvent event) {
  return page_table::next[static_cast<size_t>(event)][static_cast<size_t>(state)] != page_table::X;
}
constexpr PageState next_page_state(PageState state, PageEvent event) {
  FS_ASSERT(page_event_legal(state, event));
  return static_cast<PageState>(
      page_table::next[static_cast<size_t>(event)][static_cast<size_t>(state)]);
}

// There are bytes in memory that a reader must see.
constexpr bool page_has_content(PageState state) {
  return state != PageState::absent && state != PageState::reading;
}
// A version waits to be submitted: it holds the promise of one block.
constexpr bool page_is_dirty(PageState state) {
  return state == PageState::dirty || state == PageState::writeback_dirty;
}
constexpr bool page_in_flight(PageState state) {
  return state == PageState::writeback || state == PageState::writeback_dirty;
}

struct Page {
  PageState state = PageState::absent;
  uint64_t read_id = 0;       // reading: who will bring the content
  uint64_t dirty_stamp = 0;   // of the oldest write in the version not yet submitted; 0: none
  uint64_t flight_stamp = 0;  // of the oldest write in the version in flight; 0: none
  uint32_t waiters = 0;       // writes that will change it as soon as it has landed
  BufferSlice buffer;         // newest version, one page long
};

}  // namespace stablefs
