// SPDX-License-Identifier: GPL-2.0-or-later
// Range tickets of one inode: who may be at work on which bytes at the same time.
//
// First come, first served: a ticket waits for every earlier one, held or waiting, that overlaps
// and does not share with it - and for no other, so that a read wholly below a waiting truncate
// passes. Whoever holds a ticket waits only for device I/O or for what needs no ticket.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/sync.h"

namespace stablefs {

enum class RangeClass : uint8_t {
  read,
  write,     // installs pages
  direct,    // direct write
  truncate,  // truncate, punch, zero, fallocate, clone
  submit,    // turns dirty pages into an ordered extent; only ever tried, never waited for
};
inline constexpr size_t kRangeClasses = 5;

// [earlier][later]: may both be at work on the same bytes? A write need not wait for an earlier
// read (each page shows it the old or the new version); a read must show an earlier write.
inline constexpr bool kRangeShares[kRangeClasses][kRangeClasses] = {
    /*             read   write  direct truncate submit */
    /* read     */ {true, true, false, false, true},
    /* write    */ {false, false, false, false, true},
    /* direct   */ {false, false, false, false, false},
    /* truncate */ {false, false, false, false, false},
    /* submit   */ {true, true, false, false, true},
};
constexpr bool range_shares(RangeClass earlier, RangeClass later) {
  return kRangeShares[static_cast<size_t>(earlier)][static_cast<size_t>(later)];
}

class RangeTicket;

class RangeLock {
 public:
  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock();

  size_t waiting();  // tickets not granted yet

 private:
  friend class RangeTicket;
  bool conflicts_before(const RangeTicket& ticket, const RangeTicket* stop) FS_REQUIRES(mutex_);
  void append(RangeTicket& ticket) FS_REQUIRES(mutex_);
  void prepend(RangeTicket& ticket) FS_REQUIRES(mutex_);
  void remove(RangeTicket& ticket) FS_REQUIRES(mutex_);

  Mutex mutex_{LockRank::range, "range tickets"};
  RangeTicket* head_ FS_GUARDED_BY(mutex_) = nullptr;  // in order of arrival
  RangeTicket* tail_ FS_GUARDED_BY(mutex_) = nullptr;
};

// Lives on its holder's stack; released when destroyed.
class RangeTicket {
 public:
  explicit RangeTicket(RangeLock& lock) : lock_(lock) {}
  RangeTicket(RangeLock& lock, RangeClass range_class, uint64_t first_byte, uint64_t end_byte)
      : lock_(lock) {
    acquire(range_class, first_byte, end_byte);
  }
  RangeTicket(const RangeTicket&) = delete;
  RangeTicket& operator=(const RangeTicket&) = delete;
  ~RangeTicket() { release(); }

  // Waits. Not while holding a ticket of the same lock.
  void acquire(RangeClass range_class, uint64_t first_byte, uint64_t end_byte);
  // Takes as much from `first_byte` on as no ticket held now is in the way of; those that wait are
  // overtaken. Returns where to go on: the end of what is held now, or of what is in the way of all
  // of it.
  uint64_t try_acquire_start(RangeClass range_class, uint64_t first_byte, uint64_t end_byte);
  void release();
  bool held() const { return listed_; }
  bool waited() const { return waited_; }  // in the last acquire()

 private:
  friend class RangeLock;
  void hold_in_front() FS_REQUIRES(lock_.mutex_);
  bool overlaps(const RangeTicket& other) const {
    return first_ < other.end_ && other.first_ < end_;
  }

  RangeLock& lock_;
  RangeClass class_ = RangeClass::read;
  uint64_t first_ = 0;  // [first_, end_) in bytes
  uint64_t end_ = 0;
  bool listed_ = false;  // this and the next: set and read by the owner only
  bool waited_ = false;
  // Guarded by the lock's mutex.
  bool granted_ = false;
  RangeTicket* previous_ = nullptr;
  RangeTicket* next_ = nullptr;
  CondVar turn_;
};

}  // namespace stablefs
