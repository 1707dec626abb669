// SPDX-License-Identifier: GPL-2.0-or-later
// Immutable, append-only, nodump, noatime.
#include <catch2/catch.hpp>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr auto kRefused = "not_permitted";

std::string set_flags(TestFs& t, Ino ino, uint32_t flags) {
  return name_of(t->set_flags(ino, flags));
}
std::string write(TestFs& t, Ino ino, uint64_t offset, HandleId handle = 0,
                  WriteOrigin origin = WriteOrigin::caller) {
  return name_of(t->write(ino, handle, offset, TestFs::payload("x"), {.origin = origin}));
}
std::string open(TestFs& t, Ino ino, const OpenFlags& flags) {
  const auto opened = t->open_file(ino, flags);
  if (opened.ok()) t->release(*opened);
  return name_of(opened);
}
std::string change(TestFs& t, Ino ino, const AttributeChange& change) {
  return name_of(t->set_attributes(ino, change));
}
std::string rename(TestFs& t, Ino from, const char* name, Ino to, const char* new_name,
                   RenameMode mode = RenameMode::replace) {
  return name_of(t->rename(from, name, to, new_name, mode));
}
AttributeChange with_mode() {
  AttributeChange change;
  change.mode = 0600;
  return change;
}
AttributeChange with_size(uint64_t size_bytes) {
  AttributeChange change;
  change.size_bytes = size_bytes;
  return change;
}
AttributeChange with_times_now() {
  AttributeChange change;
  change.access_time_now = change.modify_time_now = true;
  return change;
}

}  // namespace

TEST_CASE("flags are kept, shown, refused when unknown, and move the change time", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const Timestamp made = t.attributes(file).change_time;
  CHECK(t.attributes(file).flags == 0);
  const uint32_t flags = GENERATE(uint32_t{kInodeImmutable}, kInodeAppendOnly | kInodeNoDump,
                                  uint32_t{kInodeNoAccessTime}, kKnownInodeFlags);
  CHECK(set_flags(t, file, flags) == "ok");
  CHECK(t.attributes(file).change_time > made);
  t.remount();
  REQUIRE(t.find(kRootIno, "f") == file);
  CHECK(t.attributes(file).flags == flags);
  const std::string other = (flags & kInodeImmutable) != 0 ? kRefused : "ok";
  CHECK(set_flags(t, file, flags ^ kInodeNoDump) == other);  // while it stays immutable
  CHECK(set_flags(t, file, 0) == "ok");
  CHECK(t.attributes(file).flags == 0);
  CHECK(set_flags(t, file, 1) == "not_supported");
  const Ino symlink = t->make_symlink(kRootIno, "s", "t", t.new_file(0))->ino;
  CHECK(set_flags(t, symlink, kInodeNoDump) == "not_supported");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("nothing of an immutable file changes", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  t.write(file, "contents");
  OpenFlags writing;
  writing.write = writing.read = true;
  const HandleId before = *t->open_file(file, writing);
  REQUIRE(set_flags(t, file, kInodeImmutable) == "ok");
  if (GENERATE(false, true)) {
    t->release(before);
    t.remount();
    REQUIRE(t.find(kRootIno, "f") == file);
  } else {
    CHECK(write(t, file, 0, before) == kRefused);
    CHECK(name_of(t->may_cache_write(file, before)) == kRefused);
    CHECK(write(t, file, 8, before, WriteOrigin::mapping) == "ok");
    CHECK(write(t, file, 8, before, WriteOrigin::kernel_cache) == "ok");
    t->release(before);
  }
  OpenFlags appending = writing, reading, truncating;
  appending.append = true;
  reading.read = true;
  truncating.read = truncating.truncate = true;
  CHECK(open(t, file, writing) == kRefused);
  CHECK(open(t, file, appending) == kRefused);
  CHECK(open(t, file, truncating) == kRefused);
  CHECK(open(t, file, reading) == "ok");
  CHECK(write(t, file, 0) == kRefused);
  CHECK(name_of(t->punch(file, 0, 0, 1)) == kRefused);
  CHECK(name_of(t->zero(file, 0, 0, 1, false)) == kRefused);
  const Ino other = t.make_file(kRootIno, "other");
  t.write(other, "other");
  CHECK(name_of(t->copy_range({other, 0, 0}, {file, 0, 0}, 5, 0)) == kRefused);
  CHECK(name_of(t->copy_range({file, 0, 0}, {other, 0, 0}, 5, 0)) == "ok");
  CHECK(change(t, file, with_mode()) == kRefused);
  CHECK(change(t, file, with_size(0)) == kRefused);
  CHECK(change(t, file, with_times_now()) == kRefused);
  AttributeChange owner;
  owner.uid = 5;
  CHECK(change(t, file, owner) == kRefused);
  CHECK(name_of(t->set_xattr(file, "user.x", {}, {})) == kRefused);
  CHECK(name_of(t->remove_xattr(file, "user.x")) == kRefused);
  CHECK(name_of(t->set_app_tag(file, 5)) == kRefused);
  CHECK(name_of(t->link(file, kRootIno, "g")) == kRefused);
  CHECK(name_of(t->unlink(kRootIno, "f")) == kRefused);
  CHECK(rename(t, kRootIno, "f", kRootIno, "g") == kRefused);
  t.make_file(kRootIno, "h");
  CHECK(rename(t, kRootIno, "h", kRootIno, "f") == kRefused);
  CHECK(rename(t, kRootIno, "h", kRootIno, "f", RenameMode::exchange) == kRefused);
  CHECK(t.read(file).substr(0, 8) == "contents");

  REQUIRE(set_flags(t, file, 0) == "ok");
  CHECK(write(t, file, 0) == "ok");
  CHECK(change(t, file, with_mode()) == "ok");
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("times the kernel had before a file became immutable are let in, later ones not",
          "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  AttributeChange early;
  early.modify_time = early.change_time = t.clock.wall_time();
  REQUIRE(set_flags(t, file, kInodeImmutable) == "ok");
  CHECK(change(t, file, early) == "ok");
  CHECK(t.attributes(file).modify_time == *early.modify_time);
  AttributeChange late;
  late.modify_time = Timestamp{5, 0};
  late.change_time = t.clock.wall_time();
  late.change_time->seconds += 1;
  CHECK(change(t, file, late) == kRefused);
}

TEST_CASE("what the kernel's cache sends with an open file is never refused", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  REQUIRE(set_flags(t, file, GENERATE(uint32_t{kInodeImmutable}, uint32_t{kInodeAppendOnly})) ==
          "ok");
  AttributeChange late;
  late.modify_time = late.change_time = t.clock.wall_time();
  late.change_time->seconds += 10;
  late.of_kernel_cache = true;
  CHECK(change(t, file, late) == "ok");
}

TEST_CASE("an append-only file is only appended to", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  t.write(file, "contents");
  REQUIRE(set_flags(t, file, kInodeAppendOnly) == "ok");
  OpenFlags writing, appending, truncating;
  writing.write = appending.write = appending.append = true;
  truncating = appending;
  truncating.truncate = true;
  CHECK(open(t, file, writing) == kRefused);
  CHECK(open(t, file, truncating) == kRefused);
  const HandleId handle = *t->open_file(file, appending);
  CHECK(write(t, file, 0) == kRefused);
  CHECK(write(t, file, 8) == kRefused);
  CHECK(write(t, file, 7, handle) == kRefused);
  CHECK(write(t, file, 8, handle) == "ok");
  CHECK(name_of(t->may_cache_write(file, handle)) == "ok");
  const Ino source = t.make_file(kRootIno, "source");
  t.write(source, "source");
  CHECK(name_of(t->copy_range({source, 0, 0}, {file, handle, 9}, 6, 0)) == kRefused);
  t->release(handle);
  CHECK(t.read(file) == "contentsx");
  CHECK(name_of(t->punch(file, 0, 0, 1)) == kRefused);
  CHECK(change(t, file, with_size(3)) == kRefused);
  CHECK(change(t, file, with_size(30)) == kRefused);
  CHECK(change(t, file, with_mode()) == kRefused);
  CHECK(change(t, file, with_times_now()) == "ok");
  AttributeChange touch;  // as a kernel that keeps times sends it
  touch.access_time_now = true;
  touch.modify_time = touch.change_time = t.clock.wall_time();
  CHECK(change(t, file, touch) == "ok");
  touch.modify_time = Timestamp{5, 0};
  CHECK(change(t, file, touch) == kRefused);
  CHECK(name_of(t->set_xattr(file, "user.x", {}, {})) == kRefused);
  CHECK(name_of(t->link(file, kRootIno, "g")) == kRefused);
  CHECK(name_of(t->unlink(kRootIno, "f")) == kRefused);
  CHECK(rename(t, kRootIno, "f", kRootIno, "g") == kRefused);
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("entries of immutable and append-only directories", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "d");
  const Ino file = t.make_file(directory, "f");
  t.make_file(directory, "g");
  t.make_directory(directory, "sub");
  t.make_file(kRootIno, "outside");
  const bool append_only = GENERATE(false, true);
  REQUIRE(set_flags(t, directory, append_only ? kInodeAppendOnly : kInodeImmutable) == "ok");
  const std::string come = append_only ? "ok" : kRefused;
  CHECK(name_of(t->make_node(directory, "new", t.new_file(S_IFREG | 0644))) == come);
  CHECK(name_of(t->make_directory(directory, "newdir", t.new_file(0755))) == come);
  CHECK(name_of(t->make_symlink(directory, "newlink", "x", t.new_file(0))) == come);
  CHECK(name_of(t->link(file, directory, "newname")) == come);
  CHECK(rename(t, kRootIno, "outside", directory, "inside") == come);
  CHECK(name_of(t->unlink(directory, "f")) == kRefused);
  CHECK(name_of(t->remove_directory(directory, "sub")) == kRefused);
  CHECK(rename(t, directory, "f", kRootIno, "moved") == kRefused);
  CHECK(rename(t, directory, "f", directory, "g") == kRefused);
  CHECK(rename(t, directory, "f", directory, "g", RenameMode::exchange) == kRefused);
  CHECK(name_of(t->remove_directory(kRootIno, "d")) == kRefused);
  CHECK(rename(t, kRootIno, "d", kRootIno, "e") == kRefused);
  CHECK(write(t, file, 0) == "ok");  // the files in it are not concerned
  REQUIRE(set_flags(t, directory, 0) == "ok");
  CHECK(name_of(t->unlink(directory, "f")) == "ok");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("nodump and noatime are handed down, and noatime keeps the access time", "[fs]") {
  TestFs t;
  t.options.atime = AtimePolicy::strictatime;
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "d");
  REQUIRE(set_flags(t, directory, kInodeNoAccessTime | kInodeNoDump | kInodeAppendOnly) == "ok");
  const Ino file = t.make_file(directory, "f");
  CHECK(t.attributes(file).flags == (kInodeNoAccessTime | kInodeNoDump));
  t.write(file, "x");
  const Timestamp before = t.attributes(file).access_time;
  (void)t.read(file);
  CHECK(t.attributes(file).access_time == before);
  REQUIRE(set_flags(t, file, 0) == "ok");
  (void)t.read(file);
  CHECK(t.attributes(file).access_time > before);
}

TEST_CASE("set-ID bits are cleared for their owner and for whoever writes", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  AttributeChange set, clear;
  set.mode = 06745;
  REQUIRE(change(t, file, set) == "ok");
  clear.set_ids = SetIds::clear;
  clear.needs_writer = true;
  CHECK(change(t, file, clear) == kRefused);
  CHECK((t.attributes(file).mode & 07777) == 06745);
  OpenFlags writing;
  writing.write = true;
  const HandleId handle = *t->open_file(file, writing);
  CHECK(change(t, file, clear) == "ok");
  CHECK((t.attributes(file).mode & 07777) == 02745);  // no group execution
  clear.set_ids = SetIds::clear_all;
  CHECK(change(t, file, clear) == "ok");
  CHECK((t.attributes(file).mode & 07777) == 0745);
  t->release(handle);
}
