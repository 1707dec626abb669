// SPDX-License-Identifier: GPL-2.0-or-later
// Files made without a name, and whiteouts: names that are made or left out in passing.
#include <catch2/catch.hpp>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

OpenFlags writable() {
  OpenFlags flags;
  flags.read = flags.write = true;
  return flags;
}

std::pair<Ino, HandleId> make_unnamed(TestFs& t, Ino directory = kRootIno) {
  auto made = t->create_unnamed(directory, t.new_file(0640), writable());
  if (!made.ok()) FAIL(made.error().message());
  return {made->first.ino, made->second};
}

}  // namespace

TEST_CASE("a file without a name is written, read and gone with its last use", "[fs]") {
  const Backing backing = GENERATE(Backing::fake, Backing::memory_device);
  TestFs t(backing);
  t.mount();
  const auto [ino, handle] = make_unnamed(t);
  const Attributes made = t.attributes(ino);
  CHECK(made.mode == (S_IFREG | 0640));
  CHECK(made.link_count == 0);
  CHECK(made.uid == 1000);
  CHECK(t.names(kRootIno).empty());
  t.write(ino, "content", 0, handle);
  CHECK(t.read(ino, handle) == "content");
  CHECK(name_of(t->fsync(ino, handle, false)) == "ok");
  CHECK(t.check() == "");
  t->release(handle);
  CHECK(t.attributes(ino).link_count == 0);  // the kernel still knows of it
  t->forget(ino, 1);
  t->drain_orphans();
  CHECK(name_of(t->get_attributes(ino)) == "stale_inode");
  CHECK(t.check() == "");
  t.remount();
  CHECK(t.check() == "");
}

TEST_CASE("a file without a name can be given names", "[fs]") {
  const Backing backing = GENERATE(Backing::fake, Backing::memory_device);
  TestFs t(backing);
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "dir");
  const auto [ino, handle] = make_unnamed(t, directory);
  t.write(ino, "content", 0, handle);
  REQUIRE(t->link(ino, kRootIno, "first").ok());
  REQUIRE(t->link(ino, directory, "second").ok());
  CHECK(name_of(t->link(ino, kRootIno, "first")) == "exists");
  CHECK(t.attributes(ino).link_count == 2);
  CHECK(t.check() == "");
  t->release(handle);
  t->forget(ino, 3);
  t.remount();
  CHECK(t.find(kRootIno, "first") == ino);
  CHECK(t.find(directory, "second") == ino);
  CHECK(t.read(ino) == "content");
  CHECK(t.check() == "");
}

TEST_CASE("a file without a name that a crash leaves over is removed", "[fs]") {
  const Backing backing = GENERATE(Backing::fake, Backing::memory_device);
  const bool linked = GENERATE(false, true);
  TestFs t(backing);
  t.mount();
  const auto [ino, handle] = make_unnamed(t);
  t.write(ino, std::string(30000, 'x'), 0, handle);
  if (linked) REQUIRE(t->link(ino, kRootIno, "name").ok());
  REQUIRE(name_of(t->fsync(ino, handle, false)) == "ok");
  t.crash();
  t->drain_orphans();
  CHECK(t.check() == "");
  CHECK(t.find(kRootIno, "name") == (linked ? ino : Ino(0)));
  if (linked) CHECK(t.read(ino) == std::string(30000, 'x'));
  if (!linked) CHECK(name_of(t->get_attributes(ino)) == "stale_inode");
  if (backing == Backing::fake) return;
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a file without a name gets the group of a set-group-ID directory", "[fs]") {
  TestFs t;
  t.mount();
  auto directory = t->make_directory(kRootIno, "dir", {02775, 7, 8, 0, 0});
  REQUIRE(directory.ok());
  const auto [ino, handle] = make_unnamed(t, directory->ino);
  CHECK(t.attributes(ino).gid == 8);
  t->release(handle);
}

TEST_CASE("files without a name are refused where they cannot be", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(name_of(t->create_unnamed(file, t.new_file(0600), writable())) == "not_a_directory");
  CHECK(name_of(t->create_unnamed(Ino(99), t.new_file(0600), writable())) == "stale_inode");
  t.store->fail_commits = true;
  CHECK(name_of(t->create_unnamed(kRootIno, t.new_file(0600), writable())) == "no_space");
  t.store->fail_commits = false;
  CHECK(t.check() == "");
}

TEST_CASE("a rename leaves a whiteout behind", "[fs]") {
  const bool over = GENERATE(false, true);
  const bool elsewhere = GENERATE(false, true);
  TestFs t;
  t.mount();
  const Ino from = t.make_directory(kRootIno, "from");
  const Ino to = elsewhere ? t.make_directory(kRootIno, "to") : from;
  const Ino file = t.make_file(from, "file");
  if (over) t.make_file(to, "target");
  const NewFile owner{0, 11, 12, 0, 0};
  CHECK(name_of(t->rename(from, "file", to, "target", RenameMode::replace, &owner)) == "ok");
  CHECK(t.find(to, "target") == file);
  const Ino whiteout = t.find(from, "file");
  REQUIRE(whiteout != Ino(0));
  const Attributes left = t.attributes(whiteout);
  CHECK(left.mode == S_IFCHR);
  CHECK(left.device_major + left.device_minor == 0);
  CHECK(left.uid == 11);
  CHECK(left.gid == 12);
  CHECK(left.link_count == 1);
  CHECK(t.check() == "");
  t.remount();
  CHECK(t.find(from, "file") == whiteout);
  CHECK(t.check() == "");
  CHECK(name_of(t->unlink(from, "file")) == "ok");
  CHECK(t.check() == "");
}

TEST_CASE("a whiteout keeps to the rules of its rename", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "file");
  const Ino other = t.make_file(kRootIno, "other");
  const NewFile owner{0, 11, 12, 0, 0};
  const auto rename = [&](const char* from, const char* to, RenameMode mode) {
    return name_of(t->rename(kRootIno, from, kRootIno, to, mode, &owner));
  };
  CHECK(rename("file", "other", RenameMode::exchange) == "invalid_argument");
  CHECK(rename("file", "other", RenameMode::no_replace) == "exists");
  CHECK(rename("none", "other", RenameMode::replace) == "not_found");
  CHECK(t.names(kRootIno) == std::vector<std::string>{"file", "other"});
  // Two names of one file: nothing happens, so nothing is left.
  REQUIRE(t->link(file, kRootIno, "link").ok());
  CHECK(rename("file", "link", RenameMode::replace) == "ok");
  CHECK(t.find(kRootIno, "file") == file);
  t.store->fail_commits = true;
  CHECK(rename("file", "brand new", RenameMode::replace) == "no_space");
  t.store->fail_commits = false;
  CHECK(t.find(kRootIno, "other") == other);
  CHECK(rename("file", "new", RenameMode::no_replace) == "ok");
  CHECK(t.names(kRootIno) == std::vector<std::string>{"file", "link", "new", "other"});
  CHECK(t.check() == "");
  // A directory leaves one, too.
  t.make_directory(kRootIno, "dir");
  CHECK(rename("dir", "moved", RenameMode::replace) == "ok");
  CHECK(t.attributes(t.find(kRootIno, "dir")).mode == S_IFCHR);
  CHECK(t.check() == "");
}

TEST_CASE("what is made in a later mount has another generation", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const auto before = t.attributes(t.make_file(kRootIno, "before"));
  t.remount();
  const auto after = t.attributes(t.make_file(kRootIno, "after"));
  CHECK(before.generation != after.generation);
  CHECK(t.attributes(t.find(kRootIno, "before")).generation == before.generation);
}

TEST_CASE("a file that was open for reading only counts as read when it is closed", "[fs]") {
  TestFs t;
  t.options.atime = AtimePolicy::relatime;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  OpenFlags reading;
  reading.read = true;
  const HandleId reader = *t->open_file(file, reading);
  const HandleId writer = *t->open_file(file, writable());
  t.write(file, "x", 0, writer);
  const Timestamp before = t.attributes(file).access_time;
  CHECK_FALSE(t->note_cached_reads(writer));
  CHECK(t.attributes(file).access_time == before);
  CHECK(t->note_cached_reads(reader));
  CHECK(t.attributes(file).access_time > before);
  CHECK_FALSE(t->note_cached_reads(reader));  // newer than the last change
  CHECK_FALSE(t->note_cached_reads(12345));
  t->set_atime_policy(AtimePolicy::strictatime, true);
  CHECK(t->note_cached_reads(reader));
  t->set_atime_policy(AtimePolicy::noatime, true);
  CHECK_FALSE(t->note_cached_reads(reader));
  t->release(reader);
  t->release(writer);
}
