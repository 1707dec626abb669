// SPDX-License-Identifier: GPL-2.0-or-later
// The locks one thread holds, in the order taken: the run-time half of the rank rule. The list is
// sorted by rank because every lock is checked against the last one before it is added. For
// sync.cc and the scheduler's reports only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/sync.h"

namespace stablefs {

class HeldLocks {
 public:
  // Called before blocking on the lock, so that a violation is found on every path that could
  // deadlock, not only on the run that does.
  void check(const void* lock, LockRank rank, const char* name, bool same_rank_allowed) const;
  void add(const void* lock, LockRank rank, const char* name);
  void remove(const void* lock, const char* name);
  // A wait gives the lock up and takes it again, which is only in order for the last one taken.
  void check_wait(const void* lock, const char* name) const;
  std::string describe() const;  // "range 'file', page" or "nothing"

 private:
  struct Entry {
    const void* lock;
    const char* name;
    LockRank rank;
  };
  static constexpr size_t kMaxHeld = 32;

  std::array<Entry, kMaxHeld> entries_{};
  size_t count_ = 0;
};

const char* to_string(LockRank rank);

// Those of the calling thread.
HeldLocks& held_locks();

}  // namespace stablefs
