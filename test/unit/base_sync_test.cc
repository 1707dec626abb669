// SPDX-License-Identifier: GPL-2.0-or-later
// Locks, ranks, condition variables and threads without a scheduler.
#include <catch2/catch.hpp>
#include <vector>

#include "base/clock.h"
#include "base/held_locks.h"
#include "base/sync.h"
#include "death.h"

// Tests of what must stop the process start threads in a forked child.
extern "C" const char* __tsan_default_options() {
  return "die_after_fork=0";
}

using namespace stablefs;

TEST_CASE("taking locks of increasing rank is allowed") {
  Mutex inode(LockRank::inode, "inode");
  SharedMutex tree(LockRank::tree, "tree");
  Mutex leaf(LockRank::leaf, "leaf");
  MutexLock a(inode);
  SharedLock b(tree);
  MutexLock c(leaf);
  CHECK(held_locks().describe() == "'inode' (inode), 'tree' (tree), 'leaf' (leaf)");
}

TEST_CASE("locks may be given up in any order") {
  Mutex a(LockRank::inode, "a");
  Mutex b(LockRank::page, "b");
  a.lock();
  b.lock();
  a.unlock();
  CHECK(held_locks().describe() == "'b' (page)");
  Mutex c(LockRank::tree, "c");
  c.lock();
  b.unlock();
  c.unlock();
  CHECK(held_locks().describe() == "nothing");
}

TEST_CASE("a lock of lower rank under a higher one stops the process and names both") {
  const std::string output = output_of_death([] {
    Mutex page(LockRank::page, "pages of a file");
    Mutex inode(LockRank::inode, "an inode");
    MutexLock a(page);
    MutexLock b(inode);
  });
  CHECK(output.find("pages of a file") != std::string::npos);
  CHECK(output.find("an inode") != std::string::npos);
}

TEST_CASE("two locks of one rank need lock_same_rank") {
  Mutex first(LockRank::inode, "first");
  Mutex second(LockRank::inode, "second");
  first.lock();
  second.lock_same_rank();
  second.unlock();
  first.unlock();
  CHECK_FALSE(output_of_death([&]() FS_NO_THREAD_SAFETY_ANALYSIS {
                first.lock();
                second.lock();
              }).empty());
  CHECK_FALSE(output_of_death([&]() FS_NO_THREAD_SAFETY_ANALYSIS {
                first.lock();
                first.lock_same_rank();
              }).empty());
}

TEST_CASE("shared locks count for the rank rule") {
  CHECK_FALSE(output_of_death([] {
                SharedMutex tree(LockRank::tree, "tree");
                Mutex inode(LockRank::inode, "inode");
                SharedLock a(tree);
                MutexLock b(inode);
              }).empty());
  CHECK_FALSE(output_of_death([] {
                SharedMutex inode(LockRank::inode, "inode");
                Mutex tree(LockRank::tree, "tree");
                MutexLock a(tree);
                SharedLock b(inode);
              }).empty());
}

TEST_CASE("waiting is only allowed with the lock taken last") {
  CHECK_FALSE(output_of_death([] {
                Mutex inode(LockRank::inode, "inode");
                Mutex page(LockRank::page, "page");
                CondVar condition;
                SystemClock clock;
                MutexLock a(inode);
                MutexLock b(page);
                condition.wait_until(inode, clock, clock.monotonic_ns() + kNsPerMs);
              }).empty());
}

TEST_CASE("a mutex excludes and a condition variable hands over") {
  Mutex mutex(LockRank::leaf, "queue");
  CondVar changed;
  int turn = 0;
  std::vector<int> order;
  auto player = [&](int me) {
    for (int round = 0; round < 100; ++round) {
      MutexLock lock(mutex);
      while (turn != me) changed.wait(mutex);
      order.push_back(me);
      turn = 1 - me;
      changed.notify_all();
    }
  };
  Thread ping("ping", [&] { player(0); });
  Thread pong("pong", [&] { player(1); });
  ping.join();
  pong.join();
  REQUIRE(order.size() == 200);
  for (size_t i = 0; i < order.size(); ++i) CHECK(order[i] == static_cast<int>(i % 2));
}

TEST_CASE("wait_until reports a passed deadline and keeps the lock") {
  Mutex mutex(LockRank::leaf, "m");
  CondVar never;
  SystemClock clock;
  MutexLock lock(mutex);
  const uint64_t deadline_ns = clock.monotonic_ns() + 5 * kNsPerMs;
  while (never.wait_until(mutex, clock, deadline_ns)) {
  }
  CHECK(clock.monotonic_ns() >= deadline_ns);
  CHECK(held_locks().describe() == "'m' (leaf)");
  CHECK_FALSE(never.wait_until(mutex, clock, 0));
}

TEST_CASE("readers share and writers exclude") {
  SharedMutex mutex(LockRank::tree, "tree");
  int value = 0;
  std::atomic<int> readers{0};
  std::atomic<bool> both_reading{false};
  Thread reader("reader", [&] {
    SharedLock lock(mutex);
    ++readers;
    while (!both_reading) {
    }
  });
  {
    SharedLock lock(mutex);
    while (readers == 0) {
    }
    both_reading = true;
  }
  reader.join();
  Thread writer("writer", [&] {
    for (int i = 0; i < 1000; ++i) {
      ExclusiveLock lock(mutex);
      ++value;
    }
  });
  for (int i = 0; i < 1000; ++i) {
    ExclusiveLock lock(mutex);
    ++value;
  }
  writer.join();
  CHECK(value == 2000);
}

TEST_CASE("assigning to a thread joins the one it replaces") {
  std::atomic<int> finished{0};
  Thread thread("first", [&] { ++finished; });
  thread = Thread("second", [&] { ++finished; });
  CHECK(finished >= 1);
  thread = Thread();
  CHECK(finished == 2);
  CHECK_FALSE(thread.joinable());
}
