// SPDX-License-Identifier: GPL-2.0-or-later
// Directories as sets of entries: collisions, cookies, many entries.
#include <catch2/catch.hpp>
#include <set>

#include "base/prng.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

std::set<std::string> as_set(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

}  // namespace

TEST_CASE("names of one hash live together, up to 256 of them", "[fs]") {
  TestFs t;
  t.hash = [](std::string_view) { return 77ull; };
  t.mount();
  std::vector<Ino> inodes;
  for (int i = 0; i < 256; ++i) inodes.push_back(t.make_file(kRootIno, std::to_string(i)));
  CHECK(name_of(t->make_node(kRootIno, "x", t.new_file(0))) == "directory_hash_full");
  CHECK(name_of(t->link(inodes[0], kRootIno, "x")) == "directory_hash_full");
  CHECK(name_of(t->rename(kRootIno, "1", kRootIno, "x", RenameMode::replace)) ==
        "directory_hash_full");
  for (int i = 0; i < 256; ++i) CHECK(t.find(kRootIno, std::to_string(i)) == inodes[i]);
  // The lowest free ordinal is taken again.
  CHECK(name_of(t->unlink(kRootIno, "5")) == "ok");
  t.make_file(kRootIno, "x");
  for (const DirectoryEntry& entry : t.list(kRootIno)) {
    if (entry.name == "x") CHECK(entry.cookie == dirent_cookie(77, 5));
  }
  CHECK(name_of(t->rename(kRootIno, "1", kRootIno, "2", RenameMode::replace)) == "ok");
  CHECK(t.find(kRootIno, "2") == inodes[1]);
  CHECK(t.check() == "");
}

TEST_CASE("reading a directory in pieces shows each entry once", "[fs]") {
  TestFs t;
  t.mount();
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 1000; ++i) {
    t.make_file(kRootIno, std::to_string(i));
    expected.insert(std::to_string(i));
  }
  for (const size_t piece : {1, 2, 3, 127, 128, 129, 5000}) {
    CAPTURE(piece);
    std::set<std::string> seen;
    uint64_t after = 0;
    while (true) {
      const auto entries = t.list(kRootIno, after, piece);
      if (entries.empty()) break;
      for (const DirectoryEntry& entry : entries) {
        CHECK(entry.cookie > after);
        after = entry.cookie;
        CHECK(seen.insert(entry.name).second);
      }
    }
    CHECK(seen == expected);
  }
}

TEST_CASE("entries that stay are seen exactly once while others come and go", "[fs]") {
  TestFs t;
  // Few hashes, so that ordinals move about too.
  t.hash = [](std::string_view name) { return 1 + std::hash<std::string_view>{}(name) % 16; };
  t.mount();
  Prng prng(42);
  std::set<std::string> staying;
  for (int i = 0; i < 200; ++i) {
    const std::string name = "stays" + std::to_string(i);
    t.make_file(kRootIno, name);
    staying.insert(name);
  }
  std::set<std::string> coming;
  for (int round = 0; round < 20; ++round) {
    std::set<std::string> seen;
    uint64_t after = 0;
    while (true) {
      const auto entries = t.list(kRootIno, after, 1 + prng.below(20));
      if (entries.empty()) break;
      for (const DirectoryEntry& entry : entries) {
        after = entry.cookie;
        if (staying.contains(entry.name)) CHECK(seen.insert(entry.name).second);
      }
      for (int change = 0; change < 5; ++change) {
        const std::string name = "comes" + std::to_string(prng.below(100));
        if (coming.erase(name) != 0) {
          CHECK(name_of(t->unlink(kRootIno, name)) == "ok");
        } else {
          t->forget(t.make_file(kRootIno, name), 1);
          coming.insert(name);
        }
      }
    }
    CHECK(seen == staying);
  }
  CHECK(t.check() == "");
}

TEST_CASE("readdirplus counts a lookup for what it hands out only", "[fs]") {
  TestFs t;
  t.mount();
  for (int i = 0; i < 300; ++i) t->forget(t.make_file(kRootIno, std::to_string(i)), 1);
  const size_t before = t->inodes_in_memory();
  std::vector<Ino> emitted;
  const Status done =
      t->read_directory(kRootIno, 0, true, [&](const DirectoryEntry& entry, const Attributes* a) {
        if (entry.name == "." || entry.name == "..") {
          CHECK(a == nullptr);
          return true;
        }
        if (emitted.size() == 200) return false;
        REQUIRE(a != nullptr);
        CHECK(a->ino == entry.ino);
        CHECK(a->mode == (S_IFREG | 0644));
        emitted.push_back(entry.ino);
        return true;
      });
  CHECK(name_of(done) == "ok");
  CHECK(t->inodes_in_memory() == before + 200);
  for (const Ino ino : emitted) t->forget(ino, 1);
  CHECK(t->inodes_in_memory() == before);
}

TEST_CASE("the dots come first, with types and numbers", "[fs]") {
  TestFs t;
  t.mount();
  const Ino d = t.make_directory(kRootIno, "d");
  const Ino e = t.make_directory(d, "e");
  const auto entries = t.list(e);
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].name == ".");
  CHECK(entries[0].ino == e);
  CHECK(entries[0].cookie == 1);
  CHECK(entries[1].name == "..");
  CHECK(entries[1].ino == d);
  CHECK(entries[1].cookie == 2);
  CHECK(entries[1].type == 4);
  CHECK(t.list(e, 1).size() == 1);
  CHECK(t.list(e, 2).empty());
  CHECK(t.list(e, ~0ull).empty());
  CHECK(t.list(e, (1ull << 63) - 1).empty());
  const Ino f = t.make_file(e, "f");
  CHECK(name_of(t->read_directory(f, 0, false, [](auto&, auto*) { return true; })) ==
        "not_a_directory");
}

TEST_CASE("a directory of 100,000 entries", "[fs]") {
  TestFs t;
  t.mount();
  constexpr int kEntries = 100'000;
  for (int i = 0; i < kEntries; ++i) {
    t->forget(t.make_file(kRootIno, "entry" + std::to_string(i)), 1);
  }
  t.remount();
  CHECK(t.names(kRootIno).size() == kEntries);
  CHECK(as_set(t.names(kRootIno)).size() == kEntries);
  CHECK(t.attributes(kRootIno).size_bytes == kEntries * 32);
  Prng prng(1);
  for (int i = 0; i < 1000; ++i) {
    CHECK(t.find(kRootIno, "entry" + std::to_string(prng.below(kEntries))) != Ino(0));
  }
  for (int i = 0; i < kEntries; ++i) {
    if (!t->unlink(kRootIno, "entry" + std::to_string(i)).ok()) FAIL(i);
  }
  CHECK(t.names(kRootIno).empty());
  CHECK(t.medium.items.size() == 1);
  CHECK(t.check() == "");
}
