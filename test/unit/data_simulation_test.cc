// SPDX-License-Identifier: GPL-2.0-or-later
// Several threads on one file under the seeded scheduler: a failing seed replays. Checks happen in
// the threads and are gathered as text, because a test framework is not thread-safe.
#include <algorithm>
#include <numeric>

#include "base/scheduler.h"
#include "data_fixture.h"
#include "direct_writing.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{3000, 9};

struct Complaints {
  void add(const std::string& text) {
    MutexLock lock(mutex);
    if (first.empty()) first = text;
  }
  void check(bool good, const std::string& text) {
    if (!good) add(text);
  }
  Mutex mutex{LockRank::leaf, "complaints"};
  std::string first;
};

// Device completions on a thread of the device, in the seed's order, with time for others between
// the computing of a guard and its check.
DataSetup simulated(uint64_t seed) {
  DataSetup setup;
  setup.seed = seed;
  setup.device_blocks = 8192;
  setup.asynchronous = true;
  setup.writeback_delay_ns = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 20 * kNsPerMs : 500 * kNsPerMs;
  setup.keep_clean = seed % 2 == 0;
  constexpr StablePolicy kPolicies[] = {StablePolicy::automatic, StablePolicy::wait,
                                        StablePolicy::copy};
  setup.stable = kPolicies[seed / 6 % 3];
  // Down to none: then everything waits.
  setup.shadow_limit_bytes = seed % 5 * 2 * kBlockSize;
  setup.clean_limit_bytes = 8 * kBlockSize;
  setup.before_dma = [](const DeviceRequest&) { Scheduler::yield(); };
  return setup;
}

// One thread's bytes of the file, which nobody else writes.
class Owner {
 public:
  Owner(FileData& file, uint64_t first, size_t length, Complaints& complaints, uint64_t seed)
      : file_(file), first_(first), bytes_(length), complaints_(complaints), prng_(seed) {}

  void step() {
    const size_t from = prng_.below(bytes_.size());
    const size_t length = 1 + prng_.below(std::min<size_t>(bytes_.size() - from, 3 * kBlockSize));
    switch (prng_.below(8)) {
      case 0: {
        const auto bytes = random_bytes(prng_, length);
        const bool direct = prng_.chance(3);
        const auto written = direct ? write_directly(file_, first_ + from, bytes, kNow)
                                    : file_.write(first_ + from, payload_of(bytes), kNow);
        complaints_.check(written.ok() && *written == length, "write: " + what(written));
        std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<ptrdiff_t>(from));
        end_ = std::max(end_, from + length);
        break;
      }
      case 1: {
        // Whole blocks of it.
        const uint64_t start = blocks_for_bytes(first_ + from) * kBlockSize;
        if (start + kBlockSize > first_ + bytes_.size()) break;
        const auto bytes = random_bytes(prng_, kBlockSize);
        const auto written = prng_.chance(2) ? write_directly(file_, start, bytes, kNow)
                                             : file_.write(start, payload_of(bytes), kNow);
        complaints_.check(written.ok(), "write of a block: " + what(written));
        std::copy(bytes.begin(), bytes.end(),
                  bytes_.begin() + static_cast<ptrdiff_t>(start - first_));
        end_ = std::max(end_, static_cast<size_t>(start - first_) + kBlockSize);
        break;
      }
      case 2:
        read(from, length);
        break;
      case 3:
        if (prng_.chance(3)) complaints_.check(file_.write_back().ok(), "write_back");
        break;
      case 4:
        zero(from, length, true);
        break;
      case 5:
        zero(from, prng_.chance(3) ? bytes_.size() - from : length, prng_.chance(2));
        break;
      case 6: {
        const Status punched = file_.punch(first_ + from, length, kNow);
        complaints_.check(punched.ok(), "punch: " + what(punched));
        std::fill_n(bytes_.begin() + static_cast<ptrdiff_t>(from), length, std::byte{0});
        break;
      }
      case 7: {
        const bool keep_size = prng_.chance(2);
        const Status allocated = file_.allocate(first_ + from, length, keep_size, kNow);
        complaints_.check(allocated.ok(), "allocate: " + what(allocated));
        if (!keep_size) end_ = std::max(end_, from + length);
        break;
      }
    }
  }
  void zero(size_t from, size_t length, bool keep_size) {
    const Status zeroed = file_.zero(first_ + from, length, keep_size, kNow);
    complaints_.check(zeroed.ok(), "zero: " + what(zeroed));
    std::fill_n(bytes_.begin() + static_cast<ptrdiff_t>(from), length, std::byte{0});
    if (!keep_size) end_ = std::max(end_, from + length);
  }
  void read(size_t from, size_t length) {
    std::vector<std::byte> out(length);
    const auto read = file_.read(first_ + from, out);
    complaints_.check(read.ok(), "read: " + what(read));
    if (!read.ok()) return;
    // Others may not have made the file that long yet.
    const size_t known = from < end_ ? std::min(length, end_ - from) : 0;
    complaints_.check(*read >= known, "read is short of what was written");
    complaints_.check(std::equal(out.begin(), out.begin() + static_cast<ptrdiff_t>(*read),
                                 bytes_.begin() + static_cast<ptrdiff_t>(from)),
                      "read differs from what was written");
  }
  void read_all() { read(0, bytes_.size()); }
  void move_to(FileData& file) const {
    Owner copy(file, first_, bytes_.size(), complaints_, 1);
    copy.bytes_ = bytes_;
    copy.end_ = end_;
    copy.read_all();
  }

 private:
  FileData& file_;
  const uint64_t first_;
  std::vector<std::byte> bytes_;  // zero where nothing was written
  size_t end_ = 0;
  Complaints& complaints_;
  Prng prng_;
};

}  // namespace

TEST_CASE("threads that own their bytes of one file find them, under any schedule", "[data][sim]") {
  const uint64_t seed = GENERATE(range(1, 61));
  INFO("seed " << seed);
  Scheduler scheduler(seed);
  Complaints complaints;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(simulated(seed), &clock);
    FileData& file = f.make_file();
    std::vector<Owner> owners;
    // Neighbours share a block.
    for (uint64_t i = 0; i < 4; ++i) {
      owners.emplace_back(file, i * 25000, 25000, complaints, seed * 10 + i);
    }
    std::vector<Thread> threads;
    for (Owner& owner : owners) {
      threads.emplace_back("owner", [&] {
        for (int step = 0; step < 25; ++step) owner.step();
      });
    }
    threads.emplace_back("sync", [&] {
      for (int i = 0; i < 3; ++i) complaints.check(f.context->sync_all().ok(), "sync_all");
    });
    threads.clear();
    for (Owner& owner : owners) owner.read_all();
    complaints.check(file.write_back().ok(), "last write_back");
    complaints.check(f.attributes().disk_size_bytes == f.attributes().size_bytes, "size on disk");
    f.reopen();
    for (const Owner& owner : owners) owner.move_to(*f.files[0]);
    const std::string items = f.check_items();
    complaints.check(items.empty(), items);
    complaints.check(f.verifying.verifying_counters().mismatches == 0, "a buffer moved");
  });
  CHECK(complaints.first == "");
}

TEST_CASE("truncation beside writers below it harms nobody, under any schedule", "[data][sim]") {
  const uint64_t seed = GENERATE(range(1, 61));
  INFO("seed " << seed);
  Scheduler scheduler(seed);
  Complaints complaints;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(simulated(seed), &clock);
    FileData& file = f.make_file();
    complaints.check(file.truncate(50000, kNow).ok(), "first truncate");
    std::vector<Owner> owners;
    for (uint64_t i = 0; i < 2; ++i) {
      owners.emplace_back(file, i * 25000, 25000, complaints, seed * 10 + i);
    }
    std::vector<Thread> threads;
    for (Owner& owner : owners) {
      threads.emplace_back("owner", [&] {
        for (int step = 0; step < 20; ++step) owner.step();
      });
    }
    threads.emplace_back("truncate", [&] {
      Prng prng(seed);
      for (int step = 0; step < 15; ++step) {
        if (prng.chance(2)) {
          const uint64_t offset = 50000 + prng.below(60000);
          complaints.check(
              file.write(offset, payload_of(random_bytes(prng, 1 + prng.below(9000))), kNow).ok(),
              "write beyond");
        }
        const Status status = file.truncate(50000 + prng.below(40000), kNow);
        complaints.check(status.ok(), "truncate: " + what(status));
      }
      complaints.check(file.truncate(50000, kNow).ok(), "truncate");
    });
    threads.clear();
    for (Owner& owner : owners) owner.read_all();
    complaints.check(f.attributes().size_bytes == 50000, "size");
    f.reopen();
    for (const Owner& owner : owners) owner.move_to(*f.files[0]);
    const std::string items = f.check_items();
    complaints.check(items.empty(), items);
    complaints.check(f.verifying.verifying_counters().mismatches == 0, "a buffer moved");
  });
  CHECK(complaints.first == "");
}

TEST_CASE("concurrent size changers end as if one had come after the other", "[data][sim]") {
  const uint64_t seed = GENERATE(range(1, 301));
  INFO("seed " << seed);
  enum class Kind { truncate, write, direct, zero, punch, allocate, allocate_keep_size };
  struct Change {
    Kind kind;
    uint64_t offset;  // or size
    size_t length;
    std::byte fill;
  };
  Prng prng(seed);
  std::vector<Change> changes;
  for (int i = 0; i < 4; ++i) {
    changes.push_back({.kind = static_cast<Kind>(prng.below(7)),
                       .offset = prng.below(5) * 2048,
                       .length = 1 + prng.below(2) * 4095 + prng.below(100),
                       .fill = static_cast<std::byte>(i + 1)});
  }
  std::set<std::vector<std::byte>> allowed;
  std::vector<size_t> order(changes.size());
  std::iota(order.begin(), order.end(), 0);
  do {
    std::vector<std::byte> bytes(5000, std::byte{99});
    for (const size_t i : order) {
      const Change& change = changes[i];
      const uint64_t end = change.offset + change.length;
      if (change.kind == Kind::truncate) {
        bytes.resize(change.offset);
        continue;
      }
      const bool grows = change.kind != Kind::punch && change.kind != Kind::allocate_keep_size;
      if (grows && bytes.size() < end) bytes.resize(end);
      if (change.kind == Kind::allocate || change.kind == Kind::allocate_keep_size) continue;
      const uint64_t last = std::min<uint64_t>(end, bytes.size());
      if (change.offset >= last) continue;
      std::fill(
          bytes.begin() + static_cast<ptrdiff_t>(change.offset),
          bytes.begin() + static_cast<ptrdiff_t>(last),
          change.kind == Kind::write || change.kind == Kind::direct ? change.fill : std::byte{0});
    }
    allowed.insert(bytes);
  } while (std::next_permutation(order.begin(), order.end()));

  Scheduler scheduler(seed);
  Complaints complaints;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(simulated(seed), &clock);
    FileData& file = f.make_file();
    const std::vector<std::byte> start(5000, std::byte{99});
    complaints.check(file.write(0, payload_of(start), kNow).ok(), "first write");
    if (seed % 2 == 0) complaints.check(file.write_back().ok(), "first write_back");
    std::vector<Thread> threads;
    for (const Change& change : changes) {
      threads.emplace_back("changer", [&] {
        if (change.kind == Kind::truncate) {
          complaints.check(file.truncate(change.offset, kNow).ok(), "truncate");
        } else if (change.kind == Kind::punch) {
          const Status punched = file.punch(change.offset, change.length, kNow);
          complaints.check(punched.ok(), "punch: " + what(punched));
        } else if (change.kind == Kind::zero) {
          const Status zeroed = file.zero(change.offset, change.length, false, kNow);
          complaints.check(zeroed.ok(), "zero: " + what(zeroed));
        } else if (change.kind == Kind::allocate || change.kind == Kind::allocate_keep_size) {
          const bool keep_size = change.kind == Kind::allocate_keep_size;
          const Status done = file.allocate(change.offset, change.length, keep_size, kNow);
          complaints.check(done.ok(), "allocate: " + what(done));
        } else {
          const std::vector<std::byte> bytes(change.length, change.fill);
          const auto written = change.kind == Kind::direct
                                   ? write_directly(file, change.offset, bytes, kNow)
                                   : file.write(change.offset, payload_of(bytes), kNow);
          complaints.check(written.ok() && *written == bytes.size(), "write: " + what(written));
        }
      });
    }
    threads.clear();
    const auto look = [&](FileData& at) {
      std::vector<std::byte> bytes(30000);
      const auto read = at.read(0, bytes);
      complaints.check(read.ok(), "read");
      bytes.resize(read.ok() ? *read : 0);
      complaints.check(allowed.contains(bytes), "an outcome no order explains");
      complaints.check(f.attributes().size_bytes == bytes.size(), "size");
    };
    look(file);
    f.reopen();
    look(*f.files[0]);
    const std::string items = f.check_items();
    complaints.check(items.empty(), items);
  });
  CHECK(complaints.first == "");
}

TEST_CASE("failing writes are told to somebody and harm nothing else, under any schedule",
          "[data][sim]") {
  const uint64_t seed = GENERATE(range(1, 41));
  INFO("seed " << seed);
  Scheduler scheduler(seed);
  Complaints complaints;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(simulated(seed), &clock);
    FileData& file = f.make_file();
    const FaultRule rule{
        .op = DeviceOp::write, .range = f.data_blocks(), .times = UINT64_MAX, .one_in = 4};
    f.faulty.set_plan({.seed = seed, .rules = {rule}});
    std::vector<Thread> threads;
    for (uint64_t i = 0; i < 3; ++i) {
      threads.emplace_back("writer", [&, i] {
        Prng prng(seed * 7 + i);
        for (int step = 0; step < 15; ++step) {
          const uint64_t offset = prng.below(80000);
          (void)file.write(offset, payload_of(random_bytes(prng, 1 + prng.below(9000))), kNow);
          if (prng.chance(4)) (void)file.write_back();
          if (prng.chance(10)) (void)file.truncate(prng.below(90000), kNow);
          if (prng.chance(6)) (void)file.punch(offset, 1 + prng.below(20000), kNow);
          if (prng.chance(6)) (void)file.allocate(offset, 1 + prng.below(20000), true, kNow);
          if (prng.chance(9)) (void)file.zero(offset, 1 + prng.below(20000), false, kNow);
        }
      });
    }
    threads.clear();
    const uint64_t errors = file.error_count();
    const Status status = file.write_back();
    const bool lost = file.has_lost_pages();
    complaints.check(status.ok() || lost || file.error_count() > errors, "an error nobody counted");
    complaints.check(!status.ok() || !lost, "success although something is lost");
    f.faulty.set_plan({});
    complaints.check(!file.has_dirty_pages(), "dirty pages after write_back");
    complaints.check(f.context->gauges().ordered_in_flight == 0, "ordered extents left");
    std::string items = f.check_items();
    complaints.check(items.empty(), items);
    f.reopen();  // every block that is mapped verifies
    std::vector<std::byte> bytes(f.attributes().size_bytes);
    const auto read = f.files[0]->read(0, bytes);
    complaints.check(read.ok(), "read: " + what(read));
    complaints.check(f.files[0]->remove_all().ok(), "remove_all");
    items = f.check_items();
    complaints.check(items.empty(), items);
  });
  CHECK(complaints.first == "");
}

// Blocks of the file change their places on the device between a reader's looks at the tree.
TEST_CASE("a reader beside overwrites finds each block old or new, under any schedule",
          "[data][sim]") {
  constexpr uint64_t kBlocks = 40;
  const uint64_t seed = GENERATE(range(1, 101));
  INFO("seed " << seed);
  Scheduler scheduler(seed);
  Complaints complaints;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataSetup setup = simulated(seed);
    setup.keep_clean = false;
    setup.interval = seed % 2 == 0 ? Interval::block_4096 : Interval::sector_512;
    DataFixture f(setup, &clock);
    FileData& file = f.make_file();
    std::array<std::atomic<uint8_t>, kBlocks> newest{};
    Prng prng(seed);
    const auto overwrite = [&](uint64_t first, uint64_t blocks, uint8_t version) {
      const std::vector<std::byte> bytes(blocks * kBlockSize, std::byte{version});
      complaints.check(file.write(first * kBlockSize, payload_of(bytes), kNow).ok(), "write");
      for (uint64_t i = first; i < first + blocks; ++i) newest[i] = version;
    };
    overwrite(0, kBlocks, 1);
    complaints.check(file.write_back().ok(), "first write_back");
    std::atomic<bool> done{false};
    std::vector<Thread> threads;
    threads.emplace_back("writer", [&] {
      for (uint8_t version = 2; version < 30; ++version) {
        const uint64_t first = prng.below(kBlocks - 1);
        overwrite(first, 1 + prng.below(std::min<uint64_t>(kBlocks - first, 20)), version);
        complaints.check(file.write_back().ok(), "write_back");
      }
      done = true;
    });
    threads.emplace_back("reader", [&] {
      std::vector<std::byte> bytes(kBlocks * kBlockSize);
      while (!done) {
        std::array<uint8_t, kBlocks> before{};
        for (uint64_t i = 0; i < kBlocks; ++i) before[i] = newest[i];
        const auto read = file.read(0, bytes);
        complaints.check(read.ok(), "read: " + what(read));
        for (uint64_t i = 0; i < kBlocks; ++i) {
          const auto block = std::span(bytes).subspan(i * kBlockSize, kBlockSize);
          const bool torn = std::any_of(block.begin(), block.end(),
                                        [&](std::byte byte) { return byte != block[0]; });
          complaints.check(!torn, "a torn block");
          complaints.check(std::to_integer<uint8_t>(block[0]) >= before[i], "an older block");
        }
      }
    });
    threads.clear();
    const std::string items = f.check_items();
    complaints.check(items.empty(), items);
  });
  CHECK(complaints.first == "");
}
