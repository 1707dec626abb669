// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/range_lock.h"

#include <algorithm>

#include "base/assert.h"

namespace stablefs {

RangeLock::~RangeLock() {
  MutexLock lock(mutex_);
  FS_ASSERT(head_ == nullptr);
}

size_t RangeLock::waiting() {
  MutexLock lock(mutex_);
  size_t count = 0;
  for (const RangeTicket* at = head_; at != nullptr; at = at->next_) count += !at->granted_;
  return count;
}

bool RangeLock::conflicts_before(const RangeTicket& ticket, const RangeTicket* stop) {
  for (const RangeTicket* at = head_; at != stop; at = at->next_) {
    if (at->overlaps(ticket) && !range_shares(at->class_, ticket.class_)) return true;
  }
  return false;
}

void RangeLock::append(RangeTicket& ticket) {
  ticket.next_ = nullptr;
  ticket.previous_ = tail_;
  (tail_ != nullptr ? tail_->next_ : head_) = &ticket;
  tail_ = &ticket;
}

void RangeLock::prepend(RangeTicket& ticket) {
  ticket.previous_ = nullptr;
  ticket.next_ = head_;
  (head_ != nullptr ? head_->previous_ : tail_) = &ticket;
  head_ = &ticket;
}

void RangeLock::remove(RangeTicket& ticket) {
  (ticket.previous_ != nullptr ? ticket.previous_->next_ : head_) = ticket.next_;
  (ticket.next_ != nullptr ? ticket.next_->previous_ : tail_) = ticket.previous_;
}

void RangeTicket::acquire(RangeClass range_class, uint64_t first_byte, uint64_t end_byte) {
  FS_ASSERT(!listed_);
  FS_ASSERT(first_byte < end_byte);
  FS_ASSERT(range_class != RangeClass::submit);
  class_ = range_class;
  first_ = first_byte;
  end_ = end_byte;
  MutexLock lock(lock_.mutex_);
  granted_ = !lock_.conflicts_before(*this, nullptr);
  waited_ = !granted_;
  lock_.append(*this);
  while (!granted_) turn_.wait(lock_.mutex_);
  listed_ = true;
}

uint64_t RangeTicket::try_acquire_start(RangeClass range_class, uint64_t first_byte,
                                        uint64_t end_byte) {
  FS_ASSERT(!listed_);
  FS_ASSERT(first_byte < end_byte);
  class_ = range_class;
  first_ = first_byte;
  end_ = end_byte;
  MutexLock lock(lock_.mutex_);
  for (const RangeTicket* at = lock_.head_; at != nullptr; at = at->next_) {
    if (!at->granted_ || !at->overlaps(*this) || range_shares(at->class_, class_)) continue;
    if (at->first_ <= first_) return std::min(end_byte, at->end_);
    end_ = at->first_;
  }
  hold_in_front();
  return end_;
}

// So that the waiting tickets it overtakes wait for it too.
void RangeTicket::hold_in_front() {
  granted_ = true;
  lock_.prepend(*this);
  listed_ = true;
}

void RangeTicket::release() {
  if (!listed_) return;
  listed_ = false;
  MutexLock lock(lock_.mutex_);
  lock_.remove(*this);
  for (RangeTicket* at = lock_.head_; at != nullptr; at = at->next_) {
    if (at->granted_ || lock_.conflicts_before(*at, at)) continue;
    at->granted_ = true;
    at->turn_.notify_one();
  }
}

}  // namespace stablefs
