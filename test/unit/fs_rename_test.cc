// SPDX-License-Identifier: GPL-2.0-or-later
// Rename: every kind of source over every kind of target, in every mode.
#include <catch2/catch.hpp>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr RenameMode kReplace = RenameMode::replace;
constexpr RenameMode kNoReplace = RenameMode::no_replace;
constexpr RenameMode kExchange = RenameMode::exchange;

// /a/{file, dir, full/inside}, /b/{file, dir, full/inside}
struct Tree {
  TestFs t;
  Ino a, b, a_file, a_dir, a_full, a_inside, b_file, b_dir, b_full, b_inside;

  Tree() {
    t.mount();
    a = t.make_directory(kRootIno, "a");
    b = t.make_directory(kRootIno, "b");
    a_file = t.make_file(a, "file");
    a_dir = t.make_directory(a, "dir");
    a_full = t.make_directory(a, "full");
    a_inside = t.make_file(a_full, "inside");
    b_file = t.make_file(b, "file");
    b_dir = t.make_directory(b, "dir");
    b_full = t.make_directory(b, "full");
    b_inside = t.make_file(b_full, "inside");
  }
  std::string rename(Ino from, const std::string& name, Ino to, const std::string& new_name,
                     RenameMode mode = kReplace) {
    return name_of(t->rename(from, name, to, new_name, mode));
  }
};

}  // namespace

TEST_CASE("rename moves a file, also to another directory", "[fs]") {
  Tree tree;
  CHECK(tree.rename(tree.a, "file", tree.a, "new") == "ok");
  CHECK(tree.t.find(tree.a, "new") == tree.a_file);
  CHECK(tree.t.find(tree.a, "file") == Ino(0));
  CHECK(tree.rename(tree.a, "new", tree.b, "moved", kNoReplace) == "ok");
  CHECK(tree.t.find(tree.b, "moved") == tree.a_file);
  CHECK(tree.t.names(tree.a) == std::vector<std::string>{"dir", "full"});
  CHECK(tree.t.check() == "");
  tree.t.remount();
  CHECK(tree.t.find(tree.b, "moved") == tree.a_file);
}

TEST_CASE("rename moves a directory and its parent with it", "[fs]") {
  Tree tree;
  CHECK(tree.rename(tree.a, "full", tree.b, "moved") == "ok");
  CHECK(tree.t.find(tree.a_full, "..") == tree.b);
  CHECK(tree.t.attributes(tree.a).link_count == 3);
  CHECK(tree.t.attributes(tree.b).link_count == 5);
  CHECK(tree.t.find(tree.a_full, "inside") == tree.a_inside);
  CHECK(tree.t.check() == "");
}

TEST_CASE("rename over a name removes what had it", "[fs]") {
  Tree tree;
  CHECK(tree.rename(tree.a, "file", tree.b, "file") == "ok");
  CHECK(tree.t.find(tree.b, "file") == tree.a_file);
  CHECK(tree.t.attributes(tree.b_file).link_count == 0);
  CHECK(tree.rename(tree.a, "full", tree.b, "dir") == "ok");
  CHECK(tree.t.find(tree.b, "dir") == tree.a_full);
  CHECK(tree.t.attributes(tree.b_dir).link_count == 0);
  CHECK(tree.t.attributes(tree.b).link_count == 4);
  CHECK(tree.t.check() == "");
  CHECK(tree.rename(tree.b, "dir", tree.b, "full") == "directory_not_empty");
  CHECK(tree.t.check() == "");
}

TEST_CASE("rename over another type, a full directory or nothing is refused", "[fs]") {
  Tree tree;
  CHECK(tree.rename(tree.a, "dir", tree.b, "file") == "not_a_directory");
  CHECK(tree.rename(tree.a, "file", tree.b, "dir") == "is_a_directory");
  CHECK(tree.rename(tree.a, "dir", tree.b, "full") == "directory_not_empty");
  CHECK(tree.rename(tree.a, "none", tree.b, "x") == "not_found");
  CHECK(tree.rename(tree.a, "file", tree.b, "file", kNoReplace) == "exists");
  CHECK(tree.rename(tree.a, "file", tree.b, "none", kExchange) == "not_found");
  CHECK(tree.rename(tree.a, "file", tree.b_file, "x") == "not_a_directory");
  CHECK(tree.rename(tree.a, "file", Ino(999), "x") == "stale_inode");
  CHECK(tree.rename(tree.a, ".", tree.b, "x") == "name_busy");
  CHECK(tree.rename(tree.a, "dir", tree.b, "..") == "name_busy");
  CHECK(tree.rename(tree.a, "file", tree.b, std::string(256, 'x')) == "name_too_long");
  CHECK(tree.rename(tree.a, "file", tree.b, "x/y") == "name_invalid");
  CHECK(tree.t.names(tree.a) == std::vector<std::string>{"dir", "file", "full"});
  CHECK(tree.t.names(tree.b) == std::vector<std::string>{"dir", "file", "full"});
  CHECK(tree.t.check() == "");
}

TEST_CASE("a directory is never moved below itself", "[fs]") {
  Tree tree;
  const Ino deep = tree.t.make_directory(tree.a_dir, "deep");
  CHECK(tree.rename(kRootIno, "a", tree.a, "x") == "would_loop");
  CHECK(tree.rename(kRootIno, "a", tree.a_dir, "x") == "would_loop");
  CHECK(tree.rename(kRootIno, "a", deep, "x") == "would_loop");
  CHECK(tree.rename(tree.a, "dir", tree.a_dir, "deep", kExchange) == "would_loop");
  CHECK(tree.rename(tree.a_dir, "deep", tree.a, "dir", kExchange) == "would_loop");
  CHECK(tree.rename(tree.a_dir, "deep", tree.a, "dir") == "directory_not_empty");
  CHECK(tree.t.check() == "");
}

TEST_CASE("rename between names of one file does nothing", "[fs]") {
  Tree tree;
  REQUIRE(tree.t->link(tree.a_file, tree.b, "other").ok());
  CHECK(tree.rename(tree.a, "file", tree.a, "file") == "ok");
  CHECK(tree.rename(tree.a, "file", tree.b, "other") == "ok");
  CHECK(tree.rename(tree.a, "file", tree.b, "other", kExchange) == "ok");
  CHECK(tree.rename(tree.a, "file", tree.b, "other", kNoReplace) == "exists");
  CHECK(tree.t.find(tree.a, "file") == tree.a_file);
  CHECK(tree.t.find(tree.b, "other") == tree.a_file);
  CHECK(tree.t.attributes(tree.a_file).link_count == 2);
  CHECK(tree.t.check() == "");
}

TEST_CASE("exchange swaps any two names", "[fs]") {
  Tree tree;
  CHECK(tree.rename(tree.a, "file", tree.b, "full", kExchange) == "ok");
  CHECK(tree.t.find(tree.a, "file") == tree.b_full);
  CHECK(tree.t.find(tree.b, "full") == tree.a_file);
  CHECK(tree.t.find(tree.b_full, "..") == tree.a);
  CHECK(tree.t.attributes(tree.a).link_count == 5);
  CHECK(tree.t.attributes(tree.b).link_count == 3);
  CHECK(tree.t.check() == "");
  CHECK(tree.rename(tree.a, "dir", tree.b, "dir", kExchange) == "ok");
  CHECK(tree.t.find(tree.a, "dir") == tree.b_dir);
  CHECK(tree.rename(tree.a, "dir", tree.a, "full", kExchange) == "ok");
  CHECK(tree.t.find(tree.a, "dir") == tree.a_full);
  CHECK(tree.t.check() == "");
}

TEST_CASE("times of all that a rename involves move", "[fs]") {
  Tree tree;
  const Timestamp file = tree.t.attributes(tree.a_file).change_time;
  const Timestamp data = tree.t.attributes(tree.a_file).modify_time;
  const Timestamp from = tree.t.attributes(tree.a).modify_time;
  const Timestamp to = tree.t.attributes(tree.b).modify_time;
  const Timestamp replaced = tree.t.attributes(tree.b_file).change_time;
  CHECK(tree.rename(tree.a, "file", tree.b, "file") == "ok");
  CHECK(tree.t.attributes(tree.a_file).change_time > file);
  CHECK(tree.t.attributes(tree.a_file).modify_time == data);
  CHECK(tree.t.attributes(tree.a).modify_time > from);
  CHECK(tree.t.attributes(tree.b).modify_time > to);
  CHECK(tree.t.attributes(tree.b_file).change_time > replaced);
}

TEST_CASE("a file that takes a name has its data written back first", "[fs]") {
  Tree tree;
  tree.t.write(tree.a_file, "new");
  tree.t.write(tree.b_file, "old");
  REQUIRE(tree.t->fsync(tree.b_file, 0, false).ok());
  const uint64_t before = tree.t.data->write_backs;
  CHECK(tree.rename(tree.a, "file", tree.a, "other") == "ok");
  CHECK(tree.t.data->write_backs == before);
  CHECK(tree.rename(tree.a, "other", tree.b, "file") == "ok");
  CHECK(tree.t.data->write_backs == before + 1);
  tree.t.crash();
  CHECK(tree.t.read(tree.t.find(tree.b, "file")) == "new");
}

TEST_CASE("rename over a name fails when the data cannot be written back", "[fs]") {
  Tree tree;
  tree.t.write(tree.a_file, "new");
  tree.t.data->write_errors = 1;
  CHECK(tree.rename(tree.a, "file", tree.b, "file") == "writeback_failed");
  CHECK(tree.t.find(tree.b, "file") == tree.b_file);
  tree.t.data->write_errors = 0;
}
