// SPDX-License-Identifier: GPL-2.0-or-later
// Attributes, open files, durability and what becomes of unlinked files.
#include <catch2/catch.hpp>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

OpenFlags writable() {
  OpenFlags flags;
  flags.read = flags.write = true;
  return flags;
}

bool item_exists(TestFs& t, Ino ino) {
  return t->store().get(Key(ino, ItemKind::inode, 0))->has_value();
}
DiskInode item_of(TestFs& t, Ino ino) {
  DiskInode item;
  std::memcpy(&item, t->store().get(Key(ino, ItemKind::inode, 0))->value().data(), sizeof item);
  return item;
}

}  // namespace

TEST_CASE("what is written is read, also after a mount", "[fs]") {
  TestFs t;
  t.mount();
  auto made = t->create(kRootIno, "f", t.new_file(0600), writable());
  REQUIRE(made.ok());
  const auto [attributes, handle] = *made;
  t.write(attributes.ino, "hello", 0, handle);
  t.write(attributes.ino, "J", 0, handle);
  CHECK(t.read(attributes.ino, handle) == "Jello");
  CHECK(name_of(t->flush(attributes.ino, handle)) == "ok");
  t->release(handle);
  t.remount();
  CHECK(t.read(t.find(kRootIno, "f")) == "Jello");
  CHECK(t.attributes(attributes.ino).size_bytes == 5);
}

TEST_CASE("only regular files have contents", "[fs]") {
  TestFs t;
  t.mount();
  const Ino dir = t.make_directory(kRootIno, "d");
  auto fifo = t->make_node(kRootIno, "p", t.new_file(S_IFIFO));
  REQUIRE(fifo.ok());
  std::byte byte;
  CHECK(name_of(t->open_file(dir, {})) == "is_a_directory");
  CHECK(name_of(t->open_file(fifo->ino, {})) == "not_supported");
  CHECK(name_of(t->read(dir, 0, 0, std::span(&byte, 1))) == "is_a_directory");
  CHECK(name_of(t->read(fifo->ino, 0, 0, std::span(&byte, 1))) == "invalid_argument");
  CHECK(name_of(t->write(dir, 0, 0, TestFs::payload("x"))) == "is_a_directory");
  CHECK(name_of(t->seek(dir, 0, 0, true)) == "invalid_argument");
  AttributeChange change;
  change.size_bytes = 1;
  CHECK(name_of(t->set_attributes(dir, change)) == "is_a_directory");
  CHECK(name_of(t->set_attributes(fifo->ino, change)) == "invalid_argument");
}

TEST_CASE("handles must be those of the file", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const Ino g = t.make_file(kRootIno, "g");
  auto handle = t->open_file(f, {});
  REQUIRE(handle.ok());
  std::byte byte;
  CHECK(name_of(t->read(g, *handle, 0, std::span(&byte, 1))) == "bad_handle");
  CHECK(name_of(t->read(f, *handle + 1, 0, std::span(&byte, 1))) == "bad_handle");
  CHECK(name_of(t->flush(f, 12345)) == "bad_handle");
  t->release(*handle);
  t->release(*handle);
  CHECK(name_of(t->flush(f, *handle)) == "bad_handle");
  CHECK(name_of(t->fsync(f, *handle, true)) == "bad_handle");
}

TEST_CASE("nothing is written beyond the largest file", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  CHECK(name_of(t->write(f, 0, kMaxFileBytes, TestFs::payload("x"))) == "file_too_large");
  CHECK(name_of(t->write(f, 0, ~0ull, TestFs::payload("x"))) == "file_too_large");
  AttributeChange change;
  change.size_bytes = kMaxFileBytes + 1;
  CHECK(name_of(t->set_attributes(f, change)) == "file_too_large");
  std::byte byte;
  CHECK(*t->read(f, 0, ~0ull, std::span(&byte, 1)) == 0);
  CHECK(*t->write(f, 0, 0, BufferSlice()) == 0);
}

TEST_CASE("attributes change as asked and move the change time", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const Timestamp before = t.attributes(f).change_time;
  AttributeChange change;
  change.mode = 04755;
  change.uid = 7;
  change.gid = 8;
  change.modify_time = Timestamp{-5'000'000'000, 999'999'999};
  auto changed = t->set_attributes(f, change);
  REQUIRE(changed.ok());
  CHECK(changed->mode == (S_IFREG | 04755));
  CHECK(changed->uid == 7);
  CHECK(changed->gid == 8);
  CHECK(changed->modify_time == *change.modify_time);
  CHECK(changed->change_time > before);
  t.crash();
  CHECK(t.attributes(f).modify_time == *change.modify_time);
  change = {};
  change.access_time_now = change.modify_time_now = true;
  changed = t->set_attributes(f, change);
  CHECK(changed->access_time == changed->change_time);
  CHECK(changed->modify_time == changed->change_time);
  change = {};
  change.access_time = Timestamp{0, 1'000'000'000};
  CHECK(name_of(t->set_attributes(f, change)) == "invalid_argument");
  CHECK(name_of(t->set_attributes(Ino(99), {})) == "stale_inode");
}

TEST_CASE("privileged bits go where they must", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  AttributeChange mode;
  const auto mode_after = [&](uint32_t start, const std::function<void()>& act) {
    mode.mode = start;
    REQUIRE(t->set_attributes(f, mode).ok());
    act();
    return t.attributes(f).mode & 07777;
  };
  AttributeChange owner;
  owner.uid = 5;
  owner.set_ids = SetIds::clear;
  const auto chown = [&] { REQUIRE(t->set_attributes(f, owner).ok()); };
  CHECK(mode_after(06777, chown) == 0777);
  CHECK(mode_after(06767, chown) == 02767);
  CHECK(mode_after(06777, [&] { t.write(f, "x"); }) == 06777);
  for (const auto& [cost, left] :
       {std::pair(SetIds::clear, 02767), std::pair(SetIds::clear_all, 0767)}) {
    CHECK(mode_after(06767, [&, options = WriteOptions{.set_ids = cost}] {
            REQUIRE(t->write(f, 0, 0, TestFs::payload("x"), options).ok());
          }) == static_cast<uint32_t>(left));
  }
  OpenFlags flags = writable();
  flags.truncate = true;
  flags.set_ids = SetIds::clear;
  CHECK(mode_after(04755, [&] { REQUIRE(t->open_file(f, flags).ok()); }) == 0755);
}

TEST_CASE("truncating sets the size, and opening can truncate", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "hello");
  AttributeChange change;
  change.size_bytes = 2;
  CHECK(t->set_attributes(f, change)->size_bytes == 2);
  CHECK(t.read(f) == "he");
  change.size_bytes = 4;
  REQUIRE(t->set_attributes(f, change).ok());
  CHECK(t.read(f) == std::string("he\0\0", 4));
  OpenFlags flags = writable();
  flags.truncate = true;
  REQUIRE(t->open_file(f, flags).ok());
  CHECK(t.read(f).empty());
}

TEST_CASE("relatime moves the access time when it is old news", "[fs]") {
  TestFs t;
  t.options.atime = AtimePolicy::relatime;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "x");
  const Timestamp written = t.attributes(f).modify_time;
  t.read(f);
  const Timestamp first = t.attributes(f).access_time;
  CHECK(first > written);
  t.read(f);
  CHECK(t.attributes(f).access_time == first);
  AttributeChange change;
  change.access_time = Timestamp{first.seconds - 86400 - 1, 0};
  change.modify_time = change.change_time = Timestamp{1000, 0};
  REQUIRE(t->set_attributes(f, change).ok());
  t.read(f);
  CHECK(t.attributes(f).access_time > first);
  change.access_time = Timestamp{INT64_MIN, 0};
  REQUIRE(t->set_attributes(f, change).ok());
  t.read(f);
  CHECK(t.attributes(f).access_time > first);
}

TEST_CASE("a file opened with O_NOATIME is read without a trace", "[fs]") {
  TestFs t;
  t.options.atime = AtimePolicy::strictatime;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "x");
  const Timestamp before = t.attributes(f).access_time;
  OpenFlags flags = writable();
  flags.keep_access_time = true;
  const auto handle = t->open_file(f, flags);
  REQUIRE(handle.ok());
  std::byte buffer[1];
  REQUIRE(t->read(f, *handle, 0, buffer).ok());
  CHECK(t.attributes(f).access_time == before);
  t->release(*handle);
  t.read(f);
  CHECK(t.attributes(f).access_time > before);
}

TEST_CASE("access times cost no commit but reach the disk with the flusher", "[fs]") {
  TestFs t;
  t.options.atime = AtimePolicy::strictatime;
  t.mount();
  const Ino d = t.make_directory(kRootIno, "d");
  const Ino f = t.make_file(d, "f");
  const uint64_t commits = t.store->commits;
  t.read(f);
  t.list(d);
  CHECK(t.store->commits == commits);
  const Timestamp file_time = t.attributes(f).access_time;
  const Timestamp directory_time = t.attributes(d).access_time;
  t->forget(f, 1);
  CHECK(t.attributes(f).access_time == file_time);
  CHECK(from_disk(item_of(t, f).access_time) < file_time);
  t->run_flusher();
  CHECK(from_disk(item_of(t, f).access_time) == file_time);
  CHECK(from_disk(item_of(t, d).access_time) == directory_time);
  t->run_flusher();
  CHECK(t.store->commits == commits + 2);
}

TEST_CASE("times from the kernel's cache wait for fsync", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  AttributeChange change;
  change.modify_time = change.change_time = Timestamp{5, 6};
  const uint64_t commits = t.store->commits;
  CHECK(t->set_attributes(f, change)->modify_time == *change.modify_time);
  CHECK(t.store->commits == commits);
  CHECK(name_of(t->fsync(f, 0, true)) == "ok");
  CHECK(t.store->commits == commits);
  CHECK(name_of(t->fsync(f, 0, false)) == "ok");
  CHECK(from_disk(item_of(t, f).modify_time) == *change.modify_time);
  CHECK(from_disk(item_of(t, f).change_time) == *change.change_time);
}

TEST_CASE("an inode with something unwritten stays until it is written", "[fs]") {
  TestFs t;
  t.mount();
  const size_t before = t->inodes_in_memory();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "dirty");
  t->forget(f, 1);
  CHECK(t->inodes_in_memory() == before + 1);
  t->run_flusher();
  CHECK(t->inodes_in_memory() == before);
  CHECK(t.read(f) == "dirty");
}

TEST_CASE("fsync makes the file and its name durable", "[fs]") {
  TestFs t;
  t.mount();
  const Ino d = t.make_directory(kRootIno, "d");
  const Ino f = t.make_file(d, "f");
  const uint64_t created = t.medium.sequence;
  CHECK(t.store->synced < created);
  t.write(f, "x");
  CHECK(name_of(t->fsync(f, 0, true)) == "ok");
  CHECK(t.store->synced > created);
  t.make_file(d, "g");
  CHECK(t.store->synced < t.medium.sequence);
  CHECK(name_of(t->fsync(d, 0, false)) == "ok");
  CHECK(t.store->synced == t.medium.sequence);
}

TEST_CASE("fsync of a file that was forgotten still covers its creation", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const uint64_t created = t.medium.sequence;
  t->forget(f, 1);
  REQUIRE(t->lookup(kRootIno, "f").ok());
  CHECK(name_of(t->fsync(f, 0, false)) == "ok");
  CHECK(t.store->synced >= created);
}

TEST_CASE("a write error is told once to every open file", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const HandleId a = *t->open_file(f, writable());
  const HandleId b = *t->open_file(f, {});
  t.write(f, "x", 0, a);
  t.data->write_errors = 1;
  const HandleId late = *t->open_file(f, {});
  CHECK(name_of(t->flush(f, a)) == "writeback_failed");
  CHECK(name_of(t->flush(f, a)) == "ok");
  CHECK(name_of(t->fsync(f, b, false)) == "writeback_failed");
  CHECK(name_of(t->flush(f, b)) == "ok");
  CHECK(name_of(t->flush(f, late)) == "ok");
  t.data->write_errors = 0;
}

TEST_CASE("an unlinked file lives until its last close", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const HandleId a = *t->open_file(f, writable());
  const HandleId b = *t->open_file(f, {});
  t.write(f, "alive", 0, a);
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  CHECK(t.check() == "");
  CHECK(t.attributes(f).link_count == 0);
  CHECK(name_of(t->fsync(f, a, false)) == "ok");
  t->release(a);
  t.write(f, "still ", 0, b);
  CHECK(t.read(f, b) == "still ");
  t->release(b);
  // The kernel still knows the number: an open that found the name in time is on its way, perhaps.
  CHECK(t.attributes(f).link_count == 0);
  CHECK(t.read(f) == "still ");
  t->forget(f, 1);
  CHECK_FALSE(item_exists(t, f));
  CHECK(t.medium.contents.empty());
  CHECK(name_of(t->open_file(f, {})) == "stale_inode");
  std::byte byte;
  CHECK(name_of(t->read(f, 0, 0, std::span(&byte, 1))) == "stale_inode");
  CHECK(name_of(t->write(f, 0, 0, TestFs::payload("x"))) == "stale_inode");
  CHECK(name_of(t->link(f, kRootIno, "g")) == "stale_inode");
  AttributeChange size;
  size.size_bytes = 0;
  CHECK(name_of(t->set_attributes(f, size)) == "stale_inode");
  CHECK(name_of(t->get_attributes(f)) == "stale_inode");
  CHECK(t.check() == "");
}

TEST_CASE("an unlinked file that the kernel forgot lives until its last close", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const HandleId a = *t->open_file(f, writable());
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  t->forget(f, 1);
  t.write(f, "alive", 0, a);
  CHECK(t.read(f, a) == "alive");
  t->release(a);
  CHECK_FALSE(item_exists(t, f));
  CHECK(name_of(t->get_attributes(f)) == "stale_inode");
}

TEST_CASE("unmounting removes unlinked files that the kernel never forgot", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "content");
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  t.remount();
  CHECK(t.medium.contents.empty());
  CHECK_FALSE(item_exists(t, f));
}

TEST_CASE("a file replaced by rename while open lives until its close", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const Ino g = t.make_file(kRootIno, "g");
  t.write(g, "old");
  const HandleId handle = *t->open_file(g, {});
  CHECK(name_of(t->rename(kRootIno, "f", kRootIno, "g", RenameMode::replace)) == "ok");
  CHECK(t.find(kRootIno, "g") == f);
  CHECK(t.read(g, handle) == "old");
  t->forget(g, 1);
  t->release(handle);
  CHECK_FALSE(item_exists(t, g));
  CHECK(t.check() == "");
}

TEST_CASE("an open file without a name can get one again", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  const HandleId handle = *t->open_file(f, writable());
  t.write(f, "kept", 0, handle);
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  auto linked = t->link(f, kRootIno, "g");
  REQUIRE(linked.ok());
  CHECK(linked->link_count == 1);
  CHECK(t.check() == "");
  t->release(handle);
  CHECK(t.check() == "");
  t.remount();
  CHECK(t.read(t.find(kRootIno, "g")) == "kept");
}

TEST_CASE("closing removes unlinked files whose release never came", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  REQUIRE(t->open_file(f, writable()).ok());
  t.write(f, "x");
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  t.remount();
  CHECK_FALSE(item_exists(t, f));
  CHECK(t.check() == "");
}

TEST_CASE("unlinked files that a crash left over are removed at the next mount", "[fs]") {
  TestFs t;
  t.mount();
  std::vector<Ino> inodes;
  for (int i = 0; i < 300; ++i) {
    const std::string name = std::to_string(i);
    inodes.push_back(t.make_file(kRootIno, name));
    const HandleId handle = *t->open_file(inodes.back(), writable());
    t.write(inodes.back(), "x", 0, handle);
    CHECK(name_of(t->unlink(kRootIno, name)) == "ok");
  }
  CHECK(item_exists(t, inodes[0]));
  t.crash();
  t->drain_orphans();
  for (const Ino ino : inodes) CHECK_FALSE(item_exists(t, ino));
  CHECK(t.check() == "");
}

TEST_CASE("nobody gets at a file that recovery has still to remove", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  REQUIRE(t->open_file(f, writable()).ok());
  CHECK(name_of(t->unlink(kRootIno, "f")) == "ok");
  t->stop();
  t.fs.reset();
  t.options.read_only = true;
  t.mount();
  CHECK(item_exists(t, f));
  CHECK(name_of(t->get_attributes(f)) == "stale_inode");
  CHECK(name_of(t->lookup(f, ".")) == "stale_inode");
  CHECK(name_of(t->open_file(f, {})) == "stale_inode");
}

TEST_CASE("a truncation that a crash cut short is finished before anything is served", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, std::string(3 * 4096, 'x'));
  t.unmount();
  DiskOrphan orphan{};
  orphan.intent = static_cast<uint8_t>(OrphanIntent::truncate);
  orphan.start_block = 1;
  t.medium.put_struct(Key::global(ItemKind::orphan, f.value), orphan);
  t.mount();
  CHECK(t.medium.contents[f].size() == 4096);
  CHECK(t->store()
            .scan(Key::global(ItemKind::orphan, 0), Key::global(ItemKind::orphan, ~0ull), 9)
            ->empty());
}

TEST_CASE("nothing is called a hole while the kernel may hold pages", "[fs]") {
  TestFs t;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, "12345");
  CHECK(*t->seek(f, 0, 2, true) == 5);
  CHECK(name_of(t->seek(f, 0, 9, false)) == "seek_beyond_end");
  const HandleId handle = *t->open_file(f, writable());
  CHECK(*t->seek(f, handle, 9, false) == 9);
  CHECK(*t->seek(f, handle, 2, true) == 5);
  CHECK(*t->seek(f, handle, 9, true) > 9);
  CHECK(*t->seek(f, handle, 9, true, [] { return false; }) > 9);
  const auto kernel_writes = [&] { return t.write(f, "67890", 8192), true; };
  CHECK(*t->seek(f, handle, 9, true, kernel_writes) == 8197);
  t->release(handle);
  CHECK(name_of(t->seek(f, 0, 8197, true)) == "seek_beyond_end");
}

TEST_CASE("synchronous writes past the kernel's cache are durable when they return", "[fs]") {
  TestFs t;
  t.options.cache = CacheMode::daemon;
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  OpenFlags flags = writable();
  flags.sync = true;
  const HandleId handle = *t->open_file(f, flags);
  t.write(f, "x", 0, handle);
  CHECK(t.store->synced == t.medium.sequence);
  CHECK(t.medium.contents[f].size() == 1);
  // One of many by an open file that is not synchronous.
  const HandleId plain = *t->open_file(f, writable());
  t.write(f, "yy", 0, plain);
  CHECK(t.medium.contents[f].size() == 1);
  for (const WriteSync sync : {WriteSync::data, WriteSync::all}) {
    const std::string text(sync == WriteSync::data ? 3 : 4, 'z');
    REQUIRE(t->write(f, plain, 0, TestFs::payload(text), {.sync = sync}).ok());
    CHECK(t.store->synced == t.medium.sequence);
    CHECK(t.medium.contents[f].size() == text.size());
  }
}

TEST_CASE("punching and zeroing through an open file", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino f = t.make_file(kRootIno, "f");
  t.write(f, std::string(20'000, 'x'));
  OpenFlags flags = writable();
  flags.sync = true;
  const HandleId handle = *t->open_file(f, flags);
  CHECK(name_of(t->punch(f, handle, 4000, 10'000)) == "ok");
  CHECK(t.attributes(f).block_count == 3);
  CHECK(t->store().durable_sequence() == t->store().last_sequence());
  t->release(handle);
  std::string expected(20'000, 'x');
  std::fill(expected.begin() + 4000, expected.begin() + 14'000, '\0');
  CHECK(t.read(f) == expected);
  CHECK(name_of(t->zero(f, 0, 19'000, 3000, true)) == "ok");
  CHECK(t.attributes(f).size_bytes == 20'000);
  CHECK(name_of(t->zero(f, 0, 19'000, 3000, false)) == "ok");
  expected.resize(19'000);
  expected.resize(22'000);
  CHECK(t.read(f) == expected);

  const Ino dir = t.make_directory(kRootIno, "d");
  auto fifo = t->make_node(kRootIno, "p", t.new_file(S_IFIFO));
  CHECK(name_of(t->punch(dir, 0, 0, 1)) == "is_a_directory");
  CHECK(name_of(t->zero(fifo->ino, 0, 0, 1, false)) == "invalid_argument");
  CHECK(name_of(t->punch(f, 77, 0, 1)) == "bad_handle");
  CHECK(name_of(t->punch(f, 0, 5, 0)) == "invalid_argument");
  CHECK(name_of(t->zero(f, 0, kMaxFileBytes, 1, false)) == "file_too_large");
  t.remount();
  CHECK(t.read(t.find(kRootIno, "f")) == expected);
  t.unmount();
  CHECK(t.fsck() == "");
  t.options.read_only = true;
  t.mount();
  CHECK(name_of(t->punch(f, 0, 0, 1)) == "read_only");
  t.unmount();
  t.options.read_only = false;
}

TEST_CASE("statistics add up", "[fs]") {
  TestFs t;
  t.mount();
  const FsStatistics figures = t->statistics();
  CHECK(figures.total_blocks == 9900);
  CHECK(figures.free_blocks == 5000);
  CHECK(figures.available_blocks == 4000);
  CHECK(figures.files >= figures.free_files);
  CHECK(figures.name_bytes_max == 255);
  std::map<std::string, uint64_t> counters;
  for (const auto& [name, value] : t->counters()) {
    CAPTURE(name);
    CHECK(counters.emplace(name, value).second);
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == name.npos);
  }
  CHECK(counters.contains("journal.batches"));
  CHECK(counters.contains("pages.dirty_bytes"));
}
