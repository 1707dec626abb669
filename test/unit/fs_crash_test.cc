// SPDX-License-Identifier: GPL-2.0-or-later
// Crashes in the middle of everything. One thread: what is found after the crash is the tree as it
// was after some operation, not before the last sync. Many threads, every schedule from a seed:
// what is found is consistent.
#include <catch2/catch.hpp>

#include "base/prng.h"
#include "base/scheduler.h"
#include "fs_fixture.h"
#include "fs_worker.h"

using namespace stablefs;

namespace {

constexpr Backing kDevice = Backing::memory_device;

// Everything but times, sizes and contents: those may lag behind.
std::string dump(TestFs& t, Ino directory, const std::string& path) {
  std::string text;
  auto entries = t.list(directory);
  std::sort(entries.begin(), entries.end(),
            [](const DirectoryEntry& a, const DirectoryEntry& b) { return a.name < b.name; });
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == ".." || entry.name == ".") continue;
    const Attributes a = t.attributes(entry.ino);
    const std::string name = path + "/" + entry.name;
    text += name + " " + std::to_string(a.ino.value) + " " + std::to_string(a.mode) + " " +
            std::to_string(a.link_count) + " " + std::to_string(a.uid);
    if (S_ISLNK(a.mode)) text += " -> " + *t->read_symlink(a.ino);
    text += "\n";
    if (S_ISDIR(a.mode)) text += dump(t, a.ino, name);
  }
  return text;
}

// Random operations on one thread, and the tree after each of them.
class History {
 public:
  History(TestFs& t, uint64_t seed) : t_(t), prng_(seed) { record(); }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
  }
  // The position in the history, -1 when the tree never looked like this.
  long find(const std::string& tree) const {
    const auto found = std::find(trees_.rbegin(), trees_.rend(), tree);
    return trees_.rend() - found - 1;
  }
  long synced() const { return synced_; }

 private:
  void record() { trees_.push_back(dump(t_, kRootIno, "")); }
  std::string name() { return "n" + std::to_string(prng_.below(6)); }
  Ino directory() {
    Ino at = kRootIno;
    while (prng_.chance(2)) {
      auto found = t_->lookup(at, name());
      if (!found.ok()) break;
      t_->forget(found->ino, 1);
      if (!S_ISDIR(found->mode)) break;
      at = found->ino;
    }
    return at;
  }
  void forget(const Result<Attributes>& made) {
    if (made.ok()) t_->forget(made->ino, 1);
  }
  void step() {
    switch (prng_.below(11)) {
      case 0:
      case 1:
        return changed([&] { forget(t_->make_node(directory(), name(), t_.new_file(0600))); });
      case 2:
      case 3:
        return changed([&] { forget(t_->make_directory(directory(), name(), t_.new_file(0))); });
      case 4:
        return changed(
            [&] { forget(t_->make_symlink(directory(), name(), "target", t_.new_file(0))); });
      case 5:
        return changed([&] { (void)t_->unlink(directory(), name()).ok(); });
      case 6:
        return changed([&] { (void)t_->remove_directory(directory(), name()).ok(); });
      case 7:
      case 8: {
        const RenameMode mode = prng_.chance(3) ? RenameMode::exchange : RenameMode::replace;
        return changed(
            [&] { (void)t_->rename(directory(), name(), directory(), name(), mode).ok(); });
      }
      case 9:
        return write_some();
      default:
        if (!prng_.chance(4)) return change_owner();
        REQUIRE(name_of(t_->sync_all()) == "ok");
        synced_ = static_cast<long>(trees_.size()) - 1;
    }
  }
  void changed(const std::function<void()>& operation) {
    operation();
    record();
  }
  void write_some() {
    auto found = t_->lookup(directory(), name());
    if (!found.ok()) return;
    if (S_ISREG(found->mode)) t_.write(found->ino, std::string(1 + prng_.below(9000), 'w'));
    t_->forget(found->ino, 1);
  }
  void change_owner() {
    auto found = t_->lookup(directory(), name());
    if (!found.ok()) return;
    AttributeChange change;
    change.uid = static_cast<uint32_t>(prng_.below(100));
    REQUIRE(t_->set_attributes(found->ino, change).ok());
    t_->forget(found->ino, 1);
    record();
  }

  TestFs& t_;
  Prng prng_;
  std::vector<std::string> trees_;
  long synced_ = 0;
};

constexpr CrashPolicy kPolicies[] = {CrashPolicy::keep_all, CrashPolicy::drop_all,
                                     CrashPolicy::subset, CrashPolicy::torn};

void options_for_races(TestFs& t) {
  t.options.atime = AtimePolicy::strictatime;
  t.options.commit_interval_ns = kNsPerMs;
  t.options.writeback_delay_ns = kNsPerMs;
}

}  // namespace

TEST_CASE("after a crash the tree is as it was at some moment since the last sync", "[fs]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    TestFs t(kDevice, 8192);
    options_for_races(t);
    t.mount();
    History history(t, seed);
    history.run(20 + static_cast<int>(seed % 7) * 30);
    t.power_failure(kPolicies[seed % 4], seed);
    t.mount();
    const std::string tree = dump(t, kRootIno, "");
    CAPTURE(tree);
    CHECK(history.find(tree) >= history.synced());
    t->drain_orphans();
    CHECK(t.check() == "");
    t.unmount();
    CHECK(t.fsck() == "");
  }
}

TEST_CASE("threads that fight over names under seeded schedules leave a consistent tree", "[fs]") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    std::string found;
    scheduler.run([&] {
      TestFs t;
      options_for_races(t);
      t.options.clock = &clock;
      t.mount();
      found = fight(t, seed, 3, 60);
    });
    CHECK(found == "");
  }
}

TEST_CASE("a crash while threads fight, under seeded schedules, leaves what fsck calls clean",
          "[fs]") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    TestFs t(kDevice, 8192);
    options_for_races(t);
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    t.options.clock = &clock;
    std::string surprise;
    scheduler.run([&] {
      t.mount();
      std::vector<Ino> directories = make_directories(t);
      std::vector<Worker> workers;
      for (uint64_t i = 0; i < 3; ++i) workers.emplace_back(*t.fs, seed * 10 + i, directories);
      std::vector<Thread> threads;
      for (Worker& worker : workers) {
        threads.emplace_back("worker", [&worker] { worker.run(1000); });
      }
      Prng prng(seed);
      for (uint64_t left = prng.below(3000); left > 0; --left) Scheduler::yield();
      t.crash_image(kPolicies[seed % 4], seed);
      t->stop();
      for (Thread& thread : threads) thread.join();
      t.fs.reset();
      for (const Worker& worker : workers) {
        if (worker.surprise != "shut_down") surprise += worker.surprise;
      }
    });
    CHECK(surprise == "");
    SystemClock system_clock;
    t.options.clock = &system_clock;
    t.return_after_crash();
    t.mount();
    t->drain_orphans();
    CHECK(t.check() == "");
    t.unmount();
    CHECK(t.fsck() == "");
  }
}
