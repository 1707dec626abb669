// SPDX-License-Identifier: GPL-2.0-or-later
#include <atomic>
#include <catch2/catch.hpp>
#include <deque>
#include <thread>

#include "fuse/worker_pool.h"

namespace stablefs {
namespace {

using Received = RequestWorker::Received;

const Received kKinds[] = {Received::short_request, Received::long_request};

Received any_kind() {
  return GENERATE(from_range(std::begin(kKinds), std::end(kKinds)));
}

// Requests for the workers of a test, and what they observed.
struct Source {
  struct Item {
    Received kind;
    std::function<void()> serve;
    bool may_wait = false;
  };

  Item take() {
    MutexLock lock(mutex);
    while (items.empty()) added.wait(mutex);
    Item item = std::move(items.front());
    items.pop_front();
    return item;
  }
  void add(
      Received kind, std::function<void()> serve = [] {}) {
    MutexLock lock(mutex);
    items.push_back({kind, std::move(serve)});
    added.notify_all();
  }
  void add_waiting(std::function<void()> serve) {
    MutexLock lock(mutex);
    items.push_back({Received::short_request, std::move(serve), true});
    added.notify_all();
  }

  Mutex mutex{LockRank::leaf, "source"};
  CondVar added;
  std::deque<Item> items FS_GUARDED_BY(mutex);
  std::atomic<int> receiving{0}, receiving_most{0}, serving{0}, serving_most{0};
};

void raise_to(std::atomic<int>& most, int value) {
  int seen = most.load();
  while (seen < value && !most.compare_exchange_weak(seen, value)) {
  }
}

class TestWorker final : public RequestWorker {
 public:
  explicit TestWorker(Source& source) : source_(source) {}
  Received receive() override {
    raise_to(source_.receiving_most, ++source_.receiving);
    item_ = source_.take();
    --source_.receiving;
    return item_.kind;
  }
  void serve() override {
    raise_to(source_.serving_most, ++source_.serving);
    item_.serve();
    --source_.serving;
  }
  bool may_wait() const override { return item_.may_wait; }
  std::unique_ptr<SetAside> set_aside() override {
    auto parcel = std::make_unique<Parcel>();
    parcel->item = std::move(item_);
    return parcel;
  }
  void take(std::unique_ptr<SetAside> given) override {
    item_ = std::move(static_cast<Parcel&>(*given).item);
  }

 private:
  struct Parcel final : SetAside {
    Source::Item item;
  };
  Source& source_;
  Source::Item item_;
};

struct Fixture {
  explicit Fixture(WorkerPoolOptions options = {})
      : pool(options, [this] { return std::make_unique<TestWorker>(source); }) {
    pool.start();
  }
  ~Fixture() {
    source.add(Received::ended);
    pool.join();
  }
  Source source;
  WorkerPool pool;
};

void wait_for(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  REQUIRE(condition());
}

TEST_CASE("a request that waits does not keep later ones from being served") {
  const Received kind = any_kind();
  Fixture fixture;
  std::atomic<bool> release{false};
  std::atomic<int> done{0};
  for (int i = 0; i < 20; ++i) {
    fixture.source.add(kind, [&] {
      while (!release) std::this_thread::yield();
      ++done;
    });
  }
  fixture.source.add(kind, [&] { release = true; });
  wait_for([&] { return done == 20; });
  CHECK(fixture.source.receiving_most == 1);
}

TEST_CASE("there are never more threads than allowed, and requests wait for one") {
  const Received kind = any_kind();
  Fixture fixture({.threads_max = 4, .waiting_max = 2});
  std::atomic<bool> release{false};
  std::atomic<int> done{0};
  for (int i = 0; i < 12; ++i) {
    fixture.source.add(kind, [&] {
      while (!release) std::this_thread::yield();
      ++done;
    });
  }
  wait_for([&] { return fixture.source.serving == 4; });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(fixture.source.serving == 4);
  release = true;
  wait_for([&] { return done == 12; });
  CHECK(fixture.source.serving_most == 4);
}

TEST_CASE("requests that wait leave threads for those that do not") {
  const Received kind = any_kind();
  Fixture fixture({.threads_max = 6, .reserved = 2, .waiting_max = 2});
  std::atomic<bool> release{false};
  std::atomic<int> waited{0}, served{0};
  for (int i = 0; i < 1000; ++i) {
    fixture.source.add_waiting([&] {
      while (!release) std::this_thread::yield();
      ++waited;
    });
  }
  for (int round = 0; round < 20; ++round) {
    const int before = served;
    fixture.source.add(kind, [&] { ++served; });
    wait_for([&] { return served > before; });
  }
  CHECK(fixture.source.serving_most <= 5);
  CHECK(fixture.pool.set_aside() == 996);
  CHECK(fixture.pool.threads() <= 6);
  release = true;
  wait_for([&] { return waited == 1000; });
  CHECK(fixture.pool.set_aside() == 0);
}

TEST_CASE("threads beyond the handful that may wait end") {
  const Received kind = any_kind();
  Fixture fixture({.threads_max = 32, .waiting_max = 3});
  std::atomic<bool> release{false};
  for (int i = 0; i < 16; ++i) {
    fixture.source.add(kind, [&] {
      while (!release) std::this_thread::yield();
    });
  }
  wait_for([&] { return fixture.source.serving == 16; });
  CHECK(fixture.pool.threads() >= 16);
  release = true;
  wait_for([&] { return fixture.pool.threads() <= 4; });
}

TEST_CASE("an exclusive request is served alone, after all that came before it") {
  const Received kind = any_kind();
  Fixture fixture;
  std::atomic<int> before{0};
  std::atomic<int> seen{-1};
  std::atomic<bool> alone{false};
  for (int i = 0; i < 10; ++i) {
    fixture.source.add(kind, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ++before;
    });
  }
  fixture.source.add(Received::exclusive, [&] {
    seen = before.load();
    alone = fixture.source.serving == 1 && fixture.source.receiving == 0;
  });
  std::atomic<bool> after{false};
  fixture.source.add(kind, [&] { after = true; });
  wait_for([&] { return after.load(); });
  CHECK(seen == 10);
  CHECK(alone);
}

TEST_CASE("receiving nothing is tried again") {
  const Received kind = any_kind();
  Fixture fixture;
  std::atomic<int> served{0};
  for (int i = 0; i < 50; ++i) {
    fixture.source.add(Received::nothing);
    fixture.source.add(kind, [&] { ++served; });
  }
  wait_for([&] { return served == 50; });
}

}  // namespace
}  // namespace stablefs
