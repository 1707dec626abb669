// SPDX-License-Identifier: GPL-2.0-or-later
// The whole core on a memory device: mounts, crashes, full devices, and fsck after each of them.
#include <catch2/catch.hpp>

#include "base/prng.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr Backing kDevice = Backing::memory_device;

std::string pattern(uint64_t seed, size_t length) {
  Prng prng(seed);
  std::string text(length, 0);
  for (char& c : text) c = static_cast<char>(prng.next());
  return text;
}

OpenFlags writable() {
  OpenFlags flags;
  flags.read = flags.write = true;
  return flags;
}

// A tree that grows from a seed; returns path -> content.
std::map<std::string, std::string> grow_tree(TestFs& t, uint64_t seed, int steps) {
  Prng prng(seed);
  std::map<std::string, std::string> files;
  std::vector<std::pair<Ino, std::string>> directories = {{kRootIno, ""}};
  for (int i = 0; i < steps; ++i) {
    const auto [parent, path] = directories[prng.below(directories.size())];
    const std::string name = "n" + std::to_string(i);
    if (prng.chance(4)) {
      directories.emplace_back(t.make_directory(parent, name), path + "/" + name);
      continue;
    }
    const Ino file = t.make_file(parent, name);
    std::string text = pattern(seed + i, prng.below(20000));
    if (!text.empty()) t.write(file, text);
    t->forget(file, 1);
    files[path + "/" + name] = std::move(text);
  }
  return files;
}

Ino resolve(TestFs& t, const std::string& path) {
  Ino at = kRootIno;
  for (size_t from = 1; from <= path.size();) {
    const size_t end = std::min(path.find('/', from), path.size());
    at = t.find(at, path.substr(from, end - from));
    from = end + 1;
  }
  return at;
}

void expect_tree(TestFs& t, const std::map<std::string, std::string>& files) {
  for (const auto& [path, text] : files) {
    const Ino ino = resolve(t, path);
    if (ino == Ino(0)) FAIL(path);
    if (t.read(ino) != text) FAIL(path);
  }
}

}  // namespace

TEST_CASE("a tree on a device is whole after a mount, and fsck agrees", "[fs]") {
  TestFs t(kDevice);
  t.mount();
  const auto files = grow_tree(t, 1, 400);
  expect_tree(t, files);
  CHECK(t.check() == "");
  t.remount();
  expect_tree(t, files);
  CHECK(t.check() == "");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("what was synced survives any power failure", "[fs]") {
  for (const CrashPolicy policy :
       {CrashPolicy::keep_all, CrashPolicy::drop_all, CrashPolicy::subset, CrashPolicy::torn}) {
    TestFs t(kDevice);
    t.mount();
    const auto files = grow_tree(t, 2, 200);
    REQUIRE(name_of(t->sync_all()) == "ok");
    grow_tree(t, 3, 0);
    for (int i = 0; i < 50; ++i) t.make_file(kRootIno, "later" + std::to_string(i));
    t.power_failure(policy, 7);
    t.mount();
    expect_tree(t, files);
    CHECK(t.check() == "");
    t.unmount();
    CHECK(t.fsck() == "");
  }
}

TEST_CASE("fsync of a new file brings its whole path along", "[fs]") {
  TestFs t(kDevice);
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  const Ino b = t.make_directory(a, "b");
  const Ino f = t.make_file(b, "f");
  t.write(f, "text");
  REQUIRE(name_of(t->fsync(f, 0, true)) == "ok");
  t.power_failure(CrashPolicy::drop_all, 1);
  t.mount();
  CHECK(t.read(resolve(t, "/a/b/f")) == "text");
}

TEST_CASE("after a crash a name that was taken over leads to one whole file or the other", "[fs]") {
  const std::string old_text = pattern(1, 9000);
  const std::string new_text = pattern(2, 12000);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    TestFs t(kDevice);
    t.mount();
    const Ino old_file = t.make_file(kRootIno, "f");
    t.write(old_file, old_text);
    REQUIRE(name_of(t->sync_all()) == "ok");
    const Ino new_file = t.make_file(kRootIno, "f.new");
    t.write(new_file, new_text);
    REQUIRE(name_of(t->rename(kRootIno, "f.new", kRootIno, "f", RenameMode::replace)) == "ok");
    // Half of the runs let the journal reach the device.
    if (seed % 2 == 0) {
      t.make_file(kRootIno, "g");
      REQUIRE(name_of(t->store().sync(t->store().last_sequence())) == "ok");
    }
    t.power_failure(CrashPolicy::torn, seed);
    t.mount();
    const std::string text = t.read(t.find(kRootIno, "f"));
    CHECK((text == old_text || text == new_text));
    if (seed % 2 == 0) CHECK(text == new_text);
    t.unmount();
    CHECK(t.fsck() == "");
  }
}

TEST_CASE("unlinked open files are reclaimed after a crash, their blocks too", "[fs]") {
  TestFs t(kDevice);
  t.mount();
  t.make_directory(kRootIno, "d");
  REQUIRE(name_of(t->sync_all()) == "ok");
  const uint64_t free_before = t->statistics().free_blocks;
  for (int i = 0; i < 20; ++i) {
    const std::string name = std::to_string(i);
    const Ino f = t.make_file(kRootIno, name);
    const HandleId handle = *t->open_file(f, writable());
    t.write(f, pattern(i, 50000), 0, handle);
    REQUIRE(name_of(t->fsync(f, handle, false)) == "ok");
    REQUIRE(name_of(t->unlink(kRootIno, name)) == "ok");
    CHECK(t.read(f, handle) == pattern(i, 50000));
  }
  REQUIRE(name_of(t->sync_all()) == "ok");
  t.power_failure(CrashPolicy::drop_all, 3);
  t.mount();
  t->drain_orphans();
  CHECK(t.names(kRootIno) == std::vector<std::string>{"d"});
  CHECK(t.check() == "");
  REQUIRE(name_of(t->sync_all()) == "ok");
  CHECK(t->statistics().free_blocks + 40 >= free_before);
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("removing everything gives the space back", "[fs]") {
  TestFs t(kDevice);
  t.mount();
  REQUIRE(name_of(t->store().checkpoint()) == "ok");
  const uint64_t free_before = t->statistics().free_blocks;
  for (int i = 0; i < 100; ++i) {
    const Ino f = t.make_file(kRootIno, std::to_string(i));
    t.write(f, pattern(i, 60000));
    t->forget(f, 1);
  }
  REQUIRE(name_of(t->sync_all()) == "ok");
  CHECK(t->statistics().free_blocks < free_before - 1400);
  for (int i = 0; i < 100; ++i) REQUIRE(name_of(t->unlink(kRootIno, std::to_string(i))) == "ok");
  t->drain_orphans();
  REQUIRE(name_of(t->sync_all()) == "ok");
  CHECK(t->statistics().free_blocks + 64 >= free_before);
  CHECK(t.check() == "");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a full device says so, loses nothing, and can be emptied again", "[fs]") {
  TestFs t(kDevice, 8192);
  t.options.writeback_delay_ns = 0;
  t.mount();
  std::map<std::string, std::string> files;
  const std::string text = pattern(5, 60000);
  for (int round = 0; round < 2; ++round) {
    bool full = false;
    for (int i = 0; i < 10000 && !full; ++i) {
      const std::string name = std::to_string(round) + "." + std::to_string(i);
      auto made = t->make_node(kRootIno, name, t.new_file(S_IFREG | 0600));
      if (!made.ok()) {
        CHECK(name_of(made) == "no_space");
        break;
      }
      auto written = t->write(made->ino, 0, 0, TestFs::payload(text));
      const uint64_t length = written.ok() ? *written : 0;
      if (!written.ok()) CHECK(name_of(written) == "no_space");
      full = length < text.size();
      t->forget(made->ino, 1);
      files["/" + name] = text.substr(0, length);
    }
    CHECK(files.size() > 50);
    REQUIRE(name_of(t->sync_all()) == "ok");
    expect_tree(t, files);
    int kept = 0;
    for (auto at = files.begin(); at != files.end();) {
      if (++kept % 2 == 0) {
        ++at;
        continue;
      }
      REQUIRE(name_of(t->unlink(kRootIno, at->first.substr(1))) == "ok");
      at = files.erase(at);
    }
    CHECK(t.check() == "");
  }
  t.remount();
  expect_tree(t, files);
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a large file that is removed goes in the background and leaves nothing", "[fs]") {
  TestFs t(kDevice, 65536);
  t.mount();
  const uint64_t free_before = t->statistics().free_blocks;
  const Ino f = t.make_file(kRootIno, "large");
  const std::string text = pattern(1, 1 << 20);
  for (uint64_t mib = 0; mib < 80; ++mib) t.write(f, text, mib << 20);
  REQUIRE(name_of(t->fsync(f, 0, false)) == "ok");
  CHECK(t.attributes(f).block_count == 80 * 256);
  REQUIRE(name_of(t->unlink(kRootIno, "large")) == "ok");
  t->forget(f, 1);
  t->drain_orphans();
  REQUIRE(name_of(t->sync_all()) == "ok");
  CHECK(t->statistics().free_blocks + 256 >= free_before);
  CHECK(t.check() == "");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a read-only mount of a crashed device writes nothing", "[fs]") {
  TestFs t(kDevice);
  t.mount();
  const auto files = grow_tree(t, 9, 50);
  const Ino f = t.make_file(kRootIno, "gone");
  REQUIRE(t->open_file(f, writable()).ok());
  REQUIRE(name_of(t->unlink(kRootIno, "gone")) == "ok");
  REQUIRE(name_of(t->sync_all()) == "ok");
  t.power_failure(CrashPolicy::drop_all, 1);
  t.options.read_only = true;
  t.mount();
  expect_tree(t, files);
  CHECK(t.find(kRootIno, "gone") == Ino(0));
  t.unmount();
  CHECK(t.device->counters().writes == 0);
}

TEST_CASE("many names in one directory of a device", "[fs]") {
  TestFs t(kDevice, 32768);
  t.mount();
  constexpr int kEntries = 20'000;
  for (int i = 0; i < kEntries; ++i) {
    t->forget(t.make_file(kRootIno, "entry" + std::to_string(i)), 1);
  }
  t.remount();
  CHECK(t.names(kRootIno).size() == kEntries);
  for (int i = 0; i < kEntries; ++i) {
    if (!t->unlink(kRootIno, "entry" + std::to_string(i)).ok()) FAIL(i);
  }
  CHECK(t.names(kRootIno).empty());
  t.unmount();
  CHECK(t.fsck() == "");
}
