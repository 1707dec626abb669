// SPDX-License-Identifier: GPL-2.0-or-later
// Names: creation, lookup, links and removal.
#include <catch2/catch.hpp>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

const std::string kLongName(255, 'n');
const std::string kTooLongName(256, 'n');

}  // namespace

TEST_CASE("what is created is found again, also after a mount", "[fs]") {
  TestFs t;
  t.mount();
  const Ino dir = t.make_directory(kRootIno, "dir");
  const Ino file = t.make_file(dir, kLongName);
  auto link = t->make_symlink(dir, "link", "target", t.new_file(0));
  REQUIRE(link.ok());
  auto fifo = t->make_node(dir, "fifo", t.new_file(S_IFIFO | 0600));
  REQUIRE(fifo.ok());
  auto device = t->make_node(dir, "dev", {S_IFBLK | 0600, 0, 0, 4095, 1048575});
  REQUIRE(device.ok());
  t.remount();
  CHECK(t.find(kRootIno, "dir") == dir);
  CHECK(t.find(dir, kLongName) == file);
  CHECK(*t->read_symlink(link->ino) == "target");
  CHECK(t.attributes(link->ino).size_bytes == 6);
  CHECK(t.attributes(link->ino).mode == (S_IFLNK | 0777));
  CHECK(t.attributes(fifo->ino).mode == (S_IFIFO | 0600));
  const Attributes a = t.attributes(device->ino);
  CHECK(a.device_major == 4095);
  CHECK(a.device_minor == 1048575);
  CHECK(t.attributes(file).mode == (S_IFREG | 0644));
  CHECK(t.attributes(file).uid == 1000);
  CHECK(t.attributes(file).gid == 100);
  CHECK(t.attributes(file).link_count == 1);
  CHECK(t.names(dir) == std::vector<std::string>{"dev", "fifo", "link", kLongName});
  CHECK(t.check() == "");
}

TEST_CASE("dot and dot-dot lead to the directory and its parent", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  const Ino b = t.make_directory(a, "b");
  const Ino file = t.make_file(b, "f");
  CHECK(t.find(b, ".") == b);
  CHECK(t.find(b, "..") == a);
  CHECK(t.find(a, "..") == kRootIno);
  CHECK(t.find(kRootIno, "..") == kRootIno);
  CHECK(t.find(file, ".") == file);
  CHECK(name_of(t->lookup(file, "..")) == "not_a_directory");
}

TEST_CASE("lookup tells what is wrong with a name", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(name_of(t->lookup(kRootIno, "none")) == "not_found");
  CHECK(name_of(t->lookup(kRootIno, "")) == "not_found");
  CHECK(name_of(t->lookup(kRootIno, kTooLongName)) == "name_too_long");
  CHECK(name_of(t->lookup(file, "x")) == "not_a_directory");
  CHECK(name_of(t->lookup(Ino(12345), "x")) == "stale_inode");
  CHECK(name_of(t->lookup(Ino(0), "x")) == "stale_inode");
  CHECK(name_of(t->lookup(Ino(~0ull), ".")) == "stale_inode");
}

TEST_CASE("names that cannot be are refused for every kind of file", "[fs]") {
  TestFs t;
  t.mount();
  t.make_file(kRootIno, "there");
  const Ino file = t.make_file(kRootIno, "file");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not_found"},       {".", "exists"},
      {"..", "exists"},        {kTooLongName, "name_too_long"},
      {"a/b", "name_invalid"}, {std::string("a\0b", 3), "name_invalid"},
      {"there", "exists"},
  };
  for (const auto& [name, error] : cases) {
    CAPTURE(name);
    CHECK(name_of(t->make_node(kRootIno, name, t.new_file(S_IFREG))) == error);
    CHECK(name_of(t->make_directory(kRootIno, name, t.new_file(0))) == error);
    CHECK(name_of(t->make_symlink(kRootIno, name, "x", t.new_file(0))) == error);
    CHECK(name_of(t->create(kRootIno, name, t.new_file(0), {})) == error);
    CHECK(name_of(t->link(file, kRootIno, name)) == error);
  }
  CHECK(name_of(t->make_node(file, "x", t.new_file(S_IFREG))) == "not_a_directory");
  CHECK(name_of(t->make_directory(Ino(999), "x", t.new_file(0))) == "stale_inode");
  CHECK(t.names(kRootIno) == std::vector<std::string>{"file", "there"});
  CHECK(t.check() == "");
}

TEST_CASE("node types and device numbers are checked", "[fs]") {
  TestFs t;
  t.mount();
  CHECK(name_of(t->make_node(kRootIno, "d", t.new_file(S_IFDIR))) == "invalid_argument");
  CHECK(name_of(t->make_node(kRootIno, "l", t.new_file(S_IFLNK))) == "invalid_argument");
  CHECK(name_of(t->make_node(kRootIno, "b", {S_IFBLK, 0, 0, 4096, 0})) == "invalid_argument");
  CHECK(name_of(t->make_node(kRootIno, "c", {S_IFCHR, 0, 0, 0, 1 << 20})) == "invalid_argument");
  CHECK(name_of(t->make_node(kRootIno, "r", t.new_file(0600))) == "ok");
  CHECK(t.attributes(t.find(kRootIno, "r")).mode == (S_IFREG | 0600));
}

TEST_CASE("targets of symlinks have 1 to 4095 bytes", "[fs]") {
  TestFs t;
  t.mount();
  CHECK(name_of(t->make_symlink(kRootIno, "s", "", t.new_file(0))) == "not_found");
  CHECK(name_of(t->make_symlink(kRootIno, "s", std::string(4096, 't'), t.new_file(0))) ==
        "name_too_long");
  for (const size_t length : {1, 999, 1000, 1001, 2000, 4095}) {
    CAPTURE(length);
    std::string target;
    while (target.size() < length) target += static_cast<char>('a' + target.size() % 26);
    auto made = t->make_symlink(kRootIno, "s", target, t.new_file(0));
    REQUIRE(made.ok());
    CHECK(*t->read_symlink(made->ino) == target);
    CHECK(name_of(t->unlink(kRootIno, "s")) == "ok");
    CHECK(*t->read_symlink(made->ino) == target);
    t->forget(made->ino, 1);
    CHECK(name_of(t->read_symlink(made->ino)) == "stale_inode");
    CHECK(t.check() == "");
  }
  CHECK(name_of(t->read_symlink(kRootIno)) == "not_a_symlink");
}

TEST_CASE("link counts follow names and subdirectories", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  CHECK(t.attributes(kRootIno).link_count == 3);
  CHECK(t.attributes(a).link_count == 2);
  const Ino file = t.make_file(a, "f");
  CHECK(t.attributes(a).link_count == 2);
  CHECK(t->link(file, kRootIno, "g")->link_count == 2);
  CHECK(name_of(t->unlink(a, "f")) == "ok");
  CHECK(t.attributes(file).link_count == 1);
  CHECK(name_of(t->remove_directory(kRootIno, "a")) == "ok");
  CHECK(t.attributes(kRootIno).link_count == 2);
  CHECK(t.find(kRootIno, "g") == file);
  CHECK(t.check() == "");
}

TEST_CASE("link refuses directories", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  CHECK(name_of(t->link(a, kRootIno, "b")) == "not_permitted");
  CHECK(name_of(t->link(Ino(777), kRootIno, "b")) == "stale_inode");
  const Ino f = t.make_file(kRootIno, "f");
  CHECK(name_of(t->link(f, f, "b")) == "not_a_directory");
}

TEST_CASE("unlink and rmdir tell files from directories", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  t.make_file(a, "f");
  CHECK(name_of(t->unlink(kRootIno, "a")) == "is_a_directory");
  CHECK(name_of(t->remove_directory(a, "f")) == "not_a_directory");
  CHECK(name_of(t->remove_directory(kRootIno, "a")) == "directory_not_empty");
  CHECK(name_of(t->unlink(a, "none")) == "not_found");
  CHECK(name_of(t->remove_directory(a, "none")) == "not_found");
  CHECK(name_of(t->unlink(a, ".")) == "is_a_directory");
  CHECK(name_of(t->remove_directory(a, ".")) == "invalid_argument");
  CHECK(name_of(t->remove_directory(a, "..")) == "directory_not_empty");
  CHECK(name_of(t->unlink(a, kTooLongName)) == "name_too_long");
  CHECK(name_of(t->unlink(a, "f")) == "ok");
  CHECK(name_of(t->remove_directory(kRootIno, "a")) == "ok");
  CHECK(t.names(kRootIno).empty());
  CHECK(t.check() == "");
}

TEST_CASE("a removed directory can be looked at but not filled", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  CHECK(name_of(t->remove_directory(kRootIno, "a")) == "ok");
  CHECK(t.attributes(a).link_count == 0);
  CHECK(name_of(t->make_node(a, "f", t.new_file(S_IFREG))) == "not_found");
  CHECK(name_of(t->make_directory(a, "d", t.new_file(0))) == "not_found");
  const Ino f = t.make_file(kRootIno, "f");
  CHECK(name_of(t->link(f, a, "f")) == "not_found");
  CHECK(name_of(t->rename(kRootIno, "f", a, "f", RenameMode::replace)) == "not_found");
  CHECK(name_of(t->read_directory(a, 0, false, [](auto&, auto*) { return true; })) == "not_found");
  AttributeChange change;
  change.mode = 0700;
  CHECK(name_of(t->set_attributes(a, change)) == "ok");
  CHECK(name_of(t->fsync(a, 0, false)) == "ok");
  t->forget(a, 1);
  CHECK(name_of(t->get_attributes(a)) == "stale_inode");
  CHECK(t.check() == "");
}

TEST_CASE("times move with the names", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  const Timestamp before = t.attributes(a).modify_time;
  const Ino f = t.make_file(a, "f");
  const Attributes dir = t.attributes(a);
  CHECK(dir.modify_time > before);
  CHECK(dir.change_time == dir.modify_time);
  const Attributes file = t.attributes(f);
  CHECK(file.birth_time == file.modify_time);
  CHECK(file.access_time == file.modify_time);
  REQUIRE(t->link(f, a, "g").ok());
  const Attributes linked = t.attributes(f);
  CHECK(linked.change_time > file.change_time);
  CHECK(linked.modify_time == file.modify_time);
  CHECK(t.attributes(a).modify_time > dir.modify_time);
  CHECK(name_of(t->unlink(a, "g")) == "ok");
  CHECK(t.attributes(f).change_time > linked.change_time);
}

TEST_CASE("a set-group-ID directory hands its group down", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  AttributeChange change;
  change.mode = 02775;
  change.gid = 50;
  REQUIRE(t->set_attributes(a, change).ok());
  CHECK(t.attributes(t.make_file(a, "f")).gid == 50);
  const Attributes sub = t.attributes(t.make_directory(a, "d"));
  CHECK(sub.gid == 50);
  CHECK(sub.mode == (S_IFDIR | 02755));
}

TEST_CASE("a failed commit changes nothing in memory", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  const Ino f = t.make_file(a, "f");
  t.make_file(a, "empty");
  const size_t inodes = t->inodes_in_memory();
  const Attributes dir = t.attributes(a);
  t.store->fail_commits = true;
  CHECK(name_of(t->make_directory(a, "d", t.new_file(0))) == "no_space");
  CHECK(name_of(t->create(a, "c", t.new_file(0), {})) == "no_space");
  CHECK(name_of(t->link(f, a, "g")) == "no_space");
  CHECK(name_of(t->rename(a, "f", a, "g", RenameMode::replace)) == "no_space");
  CHECK(name_of(t->unlink(a, "f")) == "shut_down");
  CHECK(name_of(t->rename(a, "f", a, "empty", RenameMode::replace)) == "shut_down");
  AttributeChange change;
  change.mode = 0;
  CHECK(name_of(t->set_attributes(f, change)) == "shut_down");
  t.store->fail_commits = false;
  const Attributes after = t.attributes(a);
  CHECK(after.modify_time == dir.modify_time);
  CHECK(after.link_count == dir.link_count);
  CHECK(after.size_bytes == dir.size_bytes);
  CHECK(t.attributes(f).link_count == 1);
  CHECK(t.attributes(f).mode == (S_IFREG | 0644));
  CHECK(t->inodes_in_memory() == inodes);
  CHECK(name_of(t->open_file(f, {})) == "ok");
  CHECK(name_of(t->unlink(a, "empty")) == "ok");
  CHECK(t.check() == "");
}

TEST_CASE("a read-only mount changes nothing", "[fs]") {
  TestFs t;
  t.mount();
  const Ino a = t.make_directory(kRootIno, "a");
  const Ino f = t.make_file(a, "f");
  t.write(f, "text");
  t.unmount();
  t.options.read_only = true;
  t.options.atime = AtimePolicy::strictatime;
  t.mount();
  const auto items = t.medium.items;
  CHECK(name_of(t->make_node(a, "x", t.new_file(S_IFREG))) == "read_only");
  CHECK(name_of(t->make_directory(a, "x", t.new_file(0))) == "read_only");
  CHECK(name_of(t->make_symlink(a, "x", "y", t.new_file(0))) == "read_only");
  CHECK(name_of(t->create(a, "x", t.new_file(0), {})) == "read_only");
  CHECK(name_of(t->link(f, a, "x")) == "read_only");
  CHECK(name_of(t->unlink(a, "f")) == "read_only");
  CHECK(name_of(t->remove_directory(kRootIno, "a")) == "read_only");
  CHECK(name_of(t->rename(a, "f", a, "g", RenameMode::replace)) == "read_only");
  CHECK(name_of(t->set_attributes(f, {})) == "read_only");
  CHECK(name_of(t->write(f, 0, 0, TestFs::payload("x"))) == "read_only");
  OpenFlags flags;
  flags.write = true;
  CHECK(name_of(t->open_file(f, flags)) == "read_only");
  const Timestamp accessed = t.attributes(f).access_time;
  CHECK(t.read(f) == "text");
  CHECK(t.attributes(f).access_time == accessed);
  CHECK(t.names(a) == std::vector<std::string>{"f"});
  CHECK(name_of(t->fsync(f, 0, false)) == "ok");
  CHECK(name_of(t->sync_all()) == "ok");
  t.unmount();
  CHECK(t.medium.items == items);
}

TEST_CASE("a stopped file system refuses everything", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "lost");
  t->stop();
  CHECK(name_of(t->lookup(kRootIno, "f")) == "shut_down");
  CHECK(name_of(t->get_attributes(f)) == "shut_down");
  CHECK(name_of(t->make_node(kRootIno, "x", t.new_file(S_IFREG))) == "shut_down");
  CHECK(name_of(t->write(f, 0, 0, TestFs::payload("x"))) == "shut_down");
  CHECK(name_of(t->fsync(f, 0, false)) == "shut_down");
  CHECK(name_of(t->sync_all()) == "shut_down");
  t->stop();
  CHECK(name_of(t->close()) == "shut_down");
  t.fs.reset();
  t.mount();
  CHECK(t.read(t.find(kRootIno, "f")).empty());
}

TEST_CASE("inodes leave memory when the kernel forgets them", "[fs]") {
  TestFs t;
  t.mount();
  const size_t before = t->inodes_in_memory();
  std::vector<Ino> inodes;
  for (int i = 0; i < 100; ++i) inodes.push_back(t.make_file(kRootIno, std::to_string(i)));
  CHECK(t->inodes_in_memory() == before + 100);
  REQUIRE(t->lookup(kRootIno, "7").ok());
  for (const Ino ino : inodes) t->forget(ino, 1);
  CHECK(t->inodes_in_memory() == before + 1);
  t->forget(inodes[7], 1000);
  CHECK(t->inodes_in_memory() == before);
  CHECK(t.attributes(inodes[3]).ino == inodes[3]);
  CHECK(t->inodes_in_memory() == before);
}
