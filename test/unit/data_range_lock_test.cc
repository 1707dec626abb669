// SPDX-License-Identifier: GPL-2.0-or-later
// Range tickets: the matrix, the order of arrival, who may overtake whom.
#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "base/prng.h"
#include "base/scheduler.h"
#include "data/range_lock.h"

using namespace stablefs;

namespace {

using C = RangeClass;
constexpr C kClasses[] = {C::read, C::write, C::direct, C::truncate, C::submit};

void wait_for_waiters(RangeLock& lock, size_t count) {
  while (lock.waiting() != count) Scheduler::yield();
}

bool takes_all(RangeTicket& ticket, C range_class, uint64_t first_byte, uint64_t end_byte) {
  const uint64_t next_byte = ticket.try_acquire_start(range_class, first_byte, end_byte);
  if (ticket.held() && next_byte != end_byte) ticket.release();
  return ticket.held();
}

}  // namespace

TEST_CASE("the matrix: who may be at work beside whom", "[data]") {
  // Rows: held; columns: R W D T S.
  const char* expected[] = {"yynny", "nnnny", "nnnnn", "nnnnn", "yynny"};
  for (size_t held = 0; held < 5; ++held) {
    for (size_t later = 0; later < 5; ++later) {
      INFO(held << " then " << later);
      RangeLock lock;
      RangeTicket first(lock);
      REQUIRE(takes_all(first, kClasses[held], 0, 100));
      RangeTicket second(lock);
      CHECK(takes_all(second, kClasses[later], 99, 200) == (expected[held][later] == 'y'));
      RangeTicket beside(lock);
      CHECK(takes_all(beside, kClasses[later], 200, 201));
    }
  }
}

TEST_CASE("tickets that do not share are granted in order of arrival", "[data]") {
  RangeLock lock;
  std::vector<int> order;
  RangeTicket held(lock, C::truncate, 0, 1000);
  std::vector<Thread> threads;
  Mutex mutex{LockRank::leaf, "order"};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back("w", [&, i] {
      RangeTicket ticket(lock, i % 2 == 0 ? C::write : C::truncate, 10, 20);
      MutexLock guard(mutex);
      order.push_back(i);
    });
    wait_for_waiters(lock, static_cast<size_t>(i) + 1);
  }
  held.release();
  threads.clear();
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("a read wholly below a waiting truncate passes, one inside it waits", "[data]") {
  RangeLock lock;
  RangeTicket reader(lock, C::read, 0, 200);
  Thread truncate("t", [&] { RangeTicket ticket(lock, C::truncate, 100, ~0ull); });
  wait_for_waiters(lock, 1);
  RangeTicket below(lock, C::read, 0, 100);
  CHECK(below.held());
  std::atomic<bool> inside_granted{false};
  Thread inside("r", [&] {
    RangeTicket ticket(lock, C::read, 50, 150);
    inside_granted = true;
  });
  wait_for_waiters(lock, 2);
  CHECK_FALSE(inside_granted);
  reader.release();
  truncate.join();
  inside.join();
  CHECK(inside_granted);
}

TEST_CASE("a write passes an earlier read, a read waits for an earlier write", "[data]") {
  RangeLock lock;
  RangeTicket reader(lock, C::read, 0, 100);
  RangeTicket writer(lock, C::write, 0, 100);
  CHECK(writer.held());
  Thread later("r", [&] { RangeTicket ticket(lock, C::read, 0, 10); });
  wait_for_waiters(lock, 1);
  writer.release();
  later.join();
}

TEST_CASE("a tried submit overtakes waiting tickets, and they wait for it", "[data]") {
  RangeLock lock;
  RangeTicket reader(lock, C::read, 0, 100);
  std::atomic<bool> truncated{false};
  Thread truncate("t", [&] {
    RangeTicket ticket(lock, C::truncate, 0, ~0ull);
    truncated = true;
  });
  wait_for_waiters(lock, 1);
  RangeTicket submit(lock);
  REQUIRE(takes_all(submit, C::submit, 0, 50));
  reader.release();
  CHECK(lock.waiting() == 1);
  CHECK_FALSE(truncated);
  submit.release();
  truncate.join();
  RangeTicket held(lock, C::truncate, 10, 20);
  RangeTicket refused(lock);
  CHECK_FALSE(takes_all(refused, C::submit, 0, 50));
  CHECK(takes_all(refused, C::submit, 20, 50));
}

TEST_CASE("under any schedule nobody is at work beside one it does not share with", "[data]") {
  const uint64_t seed = GENERATE(range(1, 101));
  INFO("seed " << seed);
  Scheduler scheduler(seed);
  bool overlap = false;
  int done = 0;
  scheduler.run([&] {
    RangeLock lock;
    struct Work {
      C range_class;
      uint64_t first, end;
    };
    std::vector<std::optional<Work>> at_work(6);
    Mutex mutex{LockRank::leaf, "at work"};
    std::vector<Thread> threads;
    for (size_t i = 0; i < at_work.size(); ++i) {
      threads.emplace_back("worker", [&, i] {
        Prng prng(seed * 100 + i);
        for (int round = 0; round < 20; ++round) {
          const auto range_class = static_cast<C>(prng.below(5));
          const uint64_t first = prng.below(20), end = first + 1 + prng.below(8);
          RangeTicket ticket(lock);
          if (range_class == C::submit) {
            if (!takes_all(ticket, range_class, first, end)) continue;
          } else {
            ticket.acquire(range_class, first, end);
          }
          {
            MutexLock guard(mutex);
            for (const auto& other : at_work) {
              if (!other || first >= other->end || other->first >= end) continue;
              // Whichever of both came first: that order must be one that shares.
              overlap |= !range_shares(other->range_class, range_class) &&
                         !range_shares(range_class, other->range_class);
            }
            at_work[i] = Work{range_class, first, end};
          }
          Scheduler::yield();
          MutexLock guard(mutex);
          at_work[i].reset();
          ++done;
        }
      });
    }
    threads.clear();
  });
  CHECK_FALSE(overlap);
  CHECK(done > 20);
}
