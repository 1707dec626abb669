// SPDX-License-Identifier: GPL-2.0-or-later
// Who is told of a failed write or flush, how often, and what still works afterwards.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "base/scheduler.h"
#include "device/faulty_device.h"
#include "device/memory_device.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

struct Lines final : Logger {
  void write(LogLevel, std::string_view line) override {
    MutexLock lock(mutex);
    text += line;
    text += '\n';
  }
  std::string said() {
    MutexLock lock(mutex);
    return text;
  }
  Mutex mutex{LockRank::log, "test log"};
  std::string text;
};

// A filesystem on a device that can be told to fail.
struct FaultyFs {
  explicit FaultyFs(ErrorPolicy policy = ErrorPolicy::remount_read_only, Clock* clock = nullptr,
                    uint64_t device_blocks = 8192)
      : memory(device_blocks), faulty(memory, {}) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    FS_ASSERT(format_device(memory, format).ok());
    options.clock = clock != nullptr ? clock : &system_clock;
    options.logger = &log;
    options.errors = policy;
    options.commit_interval_ns = 3600 * kNsPerSecond;
    options.writeback_delay_ns = 1800 * kNsPerSecond;
    options.on_abort = [this] { ++aborts; };
    mount();
  }
  ~FaultyFs() {
    if (fs) (void)fs->close();
  }
  void mount() {
    auto opened = FileSystem::open(faulty, options);
    FS_ASSERT(opened.ok());
    fs = std::move(*opened);
  }
  std::string unmount() {
    const Status closed = fs->close();
    fs.reset();
    return name_of(closed);
  }
  FileSystem* operator->() { return fs.get(); }

  std::pair<Ino, HandleId> create(const std::string& name) {
    OpenFlags flags;
    flags.read = flags.write = true;
    auto made = fs->create(kRootIno, name, {S_IFREG | 0600, 0, 0, 0, 0}, flags);
    FS_ASSERT(made.ok());
    return {made->first.ino, made->second};
  }
  std::string write(Ino ino, const std::string& text, uint64_t offset = 0) {
    return name_of(fs->write(ino, 0, offset, TestFs::payload(text)));
  }
  std::string read(Ino ino) {
    std::string out(65536, '?');
    auto done = fs->read(ino, 0, 0, std::as_writable_bytes(std::span(out.data(), out.size())));
    if (!done.ok()) return done.error().name();
    out.resize(*done);
    return out;
  }
  Ino find(const std::string& name) {
    auto found = fs->lookup(kRootIno, name);
    return found.ok() ? found->ino : Ino(0);
  }
  void fail(DeviceOp op, uint64_t times = UINT64_MAX) {
    faulty.set_plan({.seed = 1, .rules = {{.op = op, .times = times}}});
  }
  void heal() { faulty.set_plan({}); }

  SystemClock system_clock;
  Lines log;
  FileSystemOptions options;
  MemoryDevice memory;
  FaultyDevice faulty;
  std::atomic<int> aborts{0};
  std::unique_ptr<FileSystem> fs;
};

const std::string kOld(9000, 'o');
const std::string kNew(9000, 'n');

}  // namespace

TEST_CASE("lost data: fsync fails as long as it is lost, close tells each open file once",
          "[fs][errors]") {
  FaultyFs t(ErrorPolicy::go_on);
  const auto [f, a] = t.create("f");
  REQUIRE(t.write(f, kOld) == "ok");
  REQUIRE(name_of(t->sync_all()) == "ok");
  const HandleId b = *t->open_file(f, {});
  REQUIRE(t.write(f, kNew) == "ok");
  t.fail(DeviceOp::write, 1);
  CHECK(name_of(t->fsync(f, a, false)) == "writeback_failed");
  t.heal();
  const HandleId late = *t->open_file(f, {});
  for (int i = 0; i < 3; ++i) {
    CHECK(name_of(t->fsync(f, a, false)) == "writeback_failed");
    CHECK(name_of(t->sync_all()) == "writeback_failed");
  }
  CHECK(name_of(t->flush(f, a)) == "ok");
  CHECK(name_of(t->flush(f, b)) == "writeback_failed");
  CHECK(name_of(t->flush(f, b)) == "ok");
  CHECK(name_of(t->flush(f, late)) == "ok");
  CHECK(t.read(f) == kNew);

  SECTION("until it is written again") {
    REQUIRE(t.write(f, kNew) == "ok");
    CHECK(name_of(t->fsync(f, a, false)) == "ok");
    CHECK(name_of(t->sync_all()) == "ok");
    CHECK(t.unmount() == "ok");
    t.mount();
    CHECK(t.read(t.find("f")) == kNew);
  }
  SECTION("until it is truncated away") {
    AttributeChange change;
    change.size_bytes = 0;
    REQUIRE(t->set_attributes(f, change).ok());
    CHECK(name_of(t->fsync(f, a, false)) == "ok");
    CHECK(t.unmount() == "ok");
  }
  SECTION("and unmounting fails with it") {
    CHECK(t.unmount() == "writeback_failed");
    t.mount();
    CHECK(t.read(t.find("f")) == kOld);
  }
}

TEST_CASE("each new loss is told again to each open file", "[fs][errors]") {
  FaultyFs t(ErrorPolicy::go_on);
  const auto [f, a] = t.create("f");
  const HandleId b = *t->open_file(f, {});
  for (int i = 0; i < 4; ++i) {
    REQUIRE(t.write(f, kNew) == "ok");
    t.fail(DeviceOp::write, 1);
    CHECK(name_of(t->sync_all()) == "writeback_failed");
    t.heal();
    for (const HandleId handle : {a, b}) {
      CHECK(name_of(t->flush(f, handle)) == "writeback_failed");
      CHECK(name_of(t->flush(f, handle)) == "ok");
    }
  }
}

TEST_CASE("syncfs tells of a loss once, even when the data has been written anew since",
          "[fs][errors]") {
  FaultyFs t(ErrorPolicy::go_on);
  const auto [f, a] = t.create("f");
  REQUIRE(t.write(f, kOld) == "ok");
  t.fail(DeviceOp::write, 1);
  CHECK(name_of(t->fsync(f, a, false)) == "writeback_failed");
  t.heal();
  REQUIRE(t.write(f, kOld) == "ok");
  CHECK(name_of(t->sync_all()) == "writeback_failed");
  CHECK(name_of(t->sync_all()) == "ok");
  CHECK(t->health()->state() == HealthState::losing);
  CHECK(t->health()->losses() == 1);
}

TEST_CASE("errors=remount-ro: what was accepted before the loss, elsewhere, is kept",
          "[fs][errors]") {
  FaultyFs t;
  const auto [f, a] = t.create("f");
  const auto [g, b] = t.create("g");
  REQUIRE(t.write(f, kNew) == "ok");
  REQUIRE(t.write(g, kNew) == "ok");
  t.fail(DeviceOp::write, 1);
  CHECK(name_of(t->fsync(f, a, false)) == "writeback_failed");
  t.heal();
  CHECK(t->health()->state() == HealthState::read_only);
  CHECK(t.write(g, kOld) == "read_only_after_error");
  CHECK(name_of(t->make_node(kRootIno, "x", {S_IFREG, 0, 0, 0, 0})) == "read_only_after_error");
  OpenFlags to_write;
  to_write.write = true;
  CHECK(name_of(t->open_file(g, to_write)) == "read_only_after_error");
  CHECK(name_of(t->unlink(kRootIno, "g")) == "read_only_after_error");
  CHECK(t.read(f) == kNew);
  CHECK(name_of(t->fsync(g, b, false)) == "ok");
  CHECK(name_of(t->fsync(f, a, false)) == "writeback_failed");
  CHECK(name_of(t->flush(g, b)) == "ok");
  CHECK(t.unmount() == "writeback_failed");
  t.mount();
  CHECK(t.read(t.find("g")) == kNew);
  CHECK(t.read(t.find("f")) == "");
}

TEST_CASE("a failed flush ends all commits, and is told once to each who may have lost by it",
          "[fs][errors]") {
  const auto policy = GENERATE(ErrorPolicy::remount_read_only, ErrorPolicy::go_on);
  FaultyFs t(policy);
  const auto [f, a] = t.create("f");
  const auto [g, b] = t.create("g");
  const auto [h, c] = t.create("h");
  REQUIRE(t.write(f, kOld) == "ok");
  REQUIRE(name_of(t->sync_all()) == "ok");
  REQUIRE(t.write(f, kNew) == "ok");
  REQUIRE(t.write(g, kNew) == "ok");
  t.fail(DeviceOp::flush, 1);
  const uint64_t flushes = t.memory.counters().flushes;
  CHECK(name_of(t->fsync(f, a, false)) != "ok");
  t.heal();
  const HandleId late = *t->open_file(g, {});
  for (int i = 0; i < 3; ++i) {
    CHECK(name_of(t->fsync(f, a, false)) == "shut_down");
    CHECK(name_of(t->fsync(h, c, false)) == "shut_down");
    CHECK(name_of(t->sync_all()) != "ok");
  }
  CHECK(name_of(t->flush(f, a)) == "ok");  // told by fsync
  CHECK(name_of(t->flush(g, b)) != "ok");
  CHECK(name_of(t->flush(g, b)) == "ok");
  CHECK(name_of(t->flush(g, late)) == "ok");
  CHECK(t.write(f, kOld) == "read_only_after_error");
  CHECK(t.read(f) == kNew);
  CHECK(t.read(g) == kNew);
  CHECK(t.unmount() == "device_flush");
  CHECK(t.memory.counters().flushes == flushes);  // never tried again
  t.mount();
  const std::string found = t.read(t.find("f"));
  CHECK((found == kOld || found == kNew));
}

TEST_CASE("nobody who holds only durable data hears of a failed flush at close", "[fs][errors]") {
  FaultyFs t;
  const auto [f, a] = t.create("f");
  REQUIRE(t.write(f, kOld) == "ok");
  REQUIRE(name_of(t->sync_all()) == "ok");
  const auto [g, b] = t.create("g");
  REQUIRE(t.write(g, kOld) == "ok");
  t.fail(DeviceOp::flush, 1);
  CHECK_FALSE(t->sync_all().ok());
  CHECK(name_of(t->flush(f, a)) == "ok");
  CHECK(name_of(t->flush(g, b)) == "shut_down");
}

TEST_CASE("a failed journal or checkpoint write halts like a failed flush", "[fs][errors]") {
  FaultyFs t;
  t.create("f");
  SECTION("journal") {
    t.fail(DeviceOp::write, 1);
    CHECK_FALSE(t->sync_all().ok());
    CHECK(t.unmount() == "journal_write_failed");
  }
  SECTION("checkpoint") {
    REQUIRE(name_of(t->sync_all()) == "ok");
    t.fail(DeviceOp::write, 1);
    CHECK_FALSE(t->store().checkpoint().ok());
    CHECK(t.unmount() == "checkpoint_failed");
  }
}

TEST_CASE("errors=abort: nothing is served any more, and whoever runs it is told", "[fs][errors]") {
  FaultyFs t(ErrorPolicy::abort);
  const auto [f, a] = t.create("f");
  REQUIRE(t.write(f, kOld) == "ok");
  t.fail(GENERATE(DeviceOp::write, DeviceOp::flush), 1);
  CHECK_FALSE(t->fsync(f, a, false).ok());
  CHECK(t.aborts == 1);
  CHECK(t.read(f) == "shut_down");
  CHECK(name_of(t->lookup(kRootIno, "f")) == "shut_down");
  CHECK(t.write(f, kNew) == "shut_down");
  CHECK_FALSE(t->fsync(f, a, false).ok());
  CHECK(t.unmount() != "ok");
  CHECK(t.aborts == 1);
}

TEST_CASE("the log says what failed, where, and what to do", "[fs][errors]") {
  FaultyFs t;
  const auto [f, a] = t.create("f");
  REQUIRE(t.write(f, kOld) == "ok");
  std::vector<std::string> words = {"memory", "errors=remount-ro", "fsck.stablefs", "injected"};
  SECTION("data") {
    t.fail(DeviceOp::write, 1);
    words.insert(words.end(), {"inode " + std::to_string(f.value), "block ", "offset 0"});
  }
  SECTION("flush") {
    t.fail(DeviceOp::flush, 1);
    words[1] = "flushing";
  }
  CHECK_FALSE(t->fsync(f, a, false).ok());
  const std::string said = t.log.said();
  CAPTURE(said);
  for (const std::string& word : words) CHECK(said.find(word) != std::string::npos);
}

TEST_CASE("lost pages do not fill the memory without end", "[fs][errors]") {
  constexpr uint64_t kBlocks = 65536;
  FaultyFs t(ErrorPolicy::go_on, nullptr, kBlocks);
  t.unmount();
  t.options.dirty_limit_bytes = 64 * kBlockSize;
  t.options.writeback_delay_ns = 0;
  t.mount();
  const auto [f, a] = t.create("f");
  REQUIRE(name_of(t->sync_all()) == "ok");
  // What lies behind the journal, where no checkpoint writes meanwhile.
  const DiskSuperblock& superblock = t->store().superblock();
  const uint64_t data_start = superblock.journal_start + superblock.journal_length_blocks;
  t.faulty.set_plan({.seed = 1,
                     .rules = {{.op = DeviceOp::write,
                                .range = BlockRange{Lba(data_start), kBlocks - data_start},
                                .times = UINT64_MAX}}});
  std::string last = "ok";
  uint64_t written = 0;
  for (; written < 1000 && last == "ok"; ++written) {
    last = t.write(f, std::string(kBlockSize, 'x'), written * kBlockSize);
  }
  CHECK(last == "writeback_failed");
  CHECK(written < 200);
}

TEST_CASE("a failed flush is not tried again by another thread that waits", "[fs][errors]") {
  uint64_t struck = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Scheduler scheduler(seed);
    SimClock clock(scheduler);
    uint64_t flushes_after = 0;
    std::atomic<int> successes_after{0};
    scheduler.run([&] {
      FaultyFs t(ErrorPolicy::remount_read_only, &clock);
      const uint64_t before = t.memory.counters().flushes;
      const uint64_t number = 1 + seed % 6;
      t.faulty.set_plan({.seed = seed, .rules = {{.op = DeviceOp::flush, .first = number}}});
      std::vector<Thread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back("writer", [&t, &successes_after, i] {
          OpenFlags flags;
          flags.read = flags.write = true;
          const auto made =
              t->create(kRootIno, std::to_string(i), {S_IFREG | 0600, 0, 0, 0, 0}, flags);
          if (!made.ok()) return;
          const auto [f, handle] = std::pair(made->first.ino, made->second);
          for (int step = 0; step < 4; ++step) {
            if (t.write(f, kNew, static_cast<uint64_t>(step) * 4096) != "ok") return;
            const bool failed_before = t.faulty.faults() != 0;
            const bool synced = t->fsync(f, handle, false).ok();
            if (failed_before && synced) ++successes_after;
          }
        });
      }
      threads.emplace_back("checkpoints", [&t] {
        for (int step = 0; step < 3; ++step) (void)t->store().checkpoint();
      });
      threads.clear();
      if (t.faulty.faults() == 0) return;
      ++struck;
      CHECK_FALSE(t->health()->allows(Activity::commit));
      flushes_after = t.memory.counters().flushes - before - (number - 1);
    });
    CHECK(flushes_after == 0);
    CHECK(successes_after == 0);
  }
  CHECK(struck > 100);
}
