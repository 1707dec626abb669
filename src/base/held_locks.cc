// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/held_locks.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/assert.h"

namespace stablefs {
namespace {

constexpr std::pair<LockRank, const char*> kRankNames[] = {
    {LockRank::control, "control"},
    {LockRank::session, "session"},
    {LockRank::rename, "rename"},
    {LockRank::inode, "inode"},
    {LockRank::attributes, "attributes"},
    {LockRank::range, "range"},
    {LockRank::reservation, "reservation"},
    {LockRank::writeback, "writeback"},
    {LockRank::page, "page"},
    {LockRank::inode_table, "inode_table"},
    {LockRank::tree, "tree"},
    {LockRank::space, "space"},
    {LockRank::journal, "journal"},
    {LockRank::device, "device"},
    {LockRank::statistics, "statistics"},
    {LockRank::log, "log"},
    {LockRank::leaf, "leaf"},
};

constinit thread_local HeldLocks this_thread_holds;

// Printed before the assertion stops the process: the expression alone names no lock.
void print_violation(const char* what, const char* name, LockRank rank, const HeldLocks& held) {
  std::fprintf(stderr, "stablefs: lock rank violation: %s '%s' (%s %u) while holding %s\n", what,
               name, to_string(rank), static_cast<unsigned>(rank), held.describe().c_str());
}

}  // namespace

HeldLocks& held_locks() {
  return this_thread_holds;
}

const char* to_string(LockRank rank) {
  for (const auto& [named, name] : kRankNames) {
    if (named == rank) return name;
  }
  return "unnamed";  // its number is printed with it
}

void HeldLocks::check(const void* lock, LockRank rank, const char* name,
                      bool same_rank_allowed) const {
  if (count_ == 0) return;
  const Entry& last = entries_[count_ - 1];
  const bool rank_increases = last.rank < rank;
  const bool same_rank_in_order = same_rank_allowed && last.rank == rank && last.lock != lock;
  const bool lock_rank_in_order = rank_increases || same_rank_in_order;
  if (!lock_rank_in_order) print_violation("taking", name, rank, *this);
  FS_ASSERT(lock_rank_in_order);
}

void HeldLocks::add(const void* lock, LockRank rank, const char* name) {
  FS_ASSERT(count_ < kMaxHeld);
  entries_[count_++] = {lock, name, rank};
}

void HeldLocks::remove(const void* lock, const char* name) {
  size_t i = count_;
  while (i > 0 && entries_[i - 1].lock != lock) --i;
  const bool unlocker_holds_the_lock = i > 0;
  if (!unlocker_holds_the_lock) {
    std::fprintf(stderr, "stablefs: '%s' unlocked by a thread that holds %s\n", name,
                 describe().c_str());
  }
  FS_ASSERT(unlocker_holds_the_lock);
  std::copy(entries_.begin() + i, entries_.begin() + count_, entries_.begin() + i - 1);
  --count_;
}

void HeldLocks::check_wait(const void* lock, const char* name) const {
  const bool waits_on_last_lock = count_ > 0 && entries_[count_ - 1].lock == lock;
  if (!waits_on_last_lock) {
    std::fprintf(stderr, "stablefs: lock rank violation: waiting with '%s' while holding %s\n",
                 name, describe().c_str());
  }
  FS_ASSERT(waits_on_last_lock);
}

std::string HeldLocks::describe() const {
  if (count_ == 0) return "nothing";
  std::string text;
  for (size_t i = 0; i < count_; ++i) {
    if (i > 0) text += ", ";
    text += std::string("'") + entries_[i].name + "' (" + to_string(entries_[i].rank) + ")";
  }
  return text;
}

}  // namespace stablefs
