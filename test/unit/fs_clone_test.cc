// SPDX-License-Identifier: GPL-2.0-or-later
// copy_file_range(2) as the file system offers it: what is refused, who is told what, what a crash
// leaves, and damage of blocks that several files have.
#include <string>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

std::string text_of(size_t blocks, char first) {
  std::string text;
  for (size_t i = 0; i < blocks; ++i) text += std::string(kBlockSize, static_cast<char>(first + i));
  return text;
}

std::string copied(TestFs& f, Ino from, Ino to, uint64_t length, uint64_t flags = 0) {
  const auto done = f->copy_range({from, 0, 0}, {to, 0, 0}, length, flags);
  return done.ok() ? std::to_string(*done) : done.error().name();
}

}  // namespace

TEST_CASE("copies between files: what is refused, and what becomes of attributes", "[fs][clone]") {
  TestFs f(Backing::memory_device);
  f.mount();
  const Ino source = f.make_file(kRootIno, "source");
  const Ino target = f.make_file(kRootIno, "target");
  const Ino directory = f.make_directory(kRootIno, "directory");
  const std::string text = text_of(5, 'a');
  f.write(source, text);
  CHECK(copied(f, source, target, 1 << 30, 1) == "invalid_argument");
  CHECK(copied(f, directory, target, 1) == "is_a_directory");
  CHECK(copied(f, source, directory, 1) == "is_a_directory");
  CHECK(copied(f, source, source, 1) == "invalid_argument");
  CHECK(copied(f, source, Ino(99), 1) == "stale_inode");
  CHECK(f->copy_range({source, 77, 0}, {target, 0, 0}, 1, 0).error().code() ==
        ErrorCode::bad_handle);
  CHECK(f->copy_range({source, 0, 0}, {target, 0, kMaxFileBytes}, 1, 0).error().code() ==
        ErrorCode::file_too_large);
  CHECK(f.attributes(target).size_bytes == 0);
  CHECK(copied(f, source, target, 1 << 30) == std::to_string(text.size()));
  CHECK(f.read(target) == text);
  CHECK(f.attributes(target).block_count == 5);
  CHECK(f.attributes(target).modify_time > f.attributes(source).modify_time);
  f.write(target, "x", 7);
  CHECK(f.read(source) == text);
  f.unmount();
  CHECK(f.fsck() == "");
}

TEST_CASE("a copy through a synchronous handle survives what comes next", "[fs][clone]") {
  const bool synchronous = GENERATE(true, false);
  TestFs f(Backing::memory_device);
  f.mount();
  const Ino source = f.make_file(kRootIno, "source");
  const Ino target = f.make_file(kRootIno, "target");
  const std::string text = text_of(9, 'a');
  f.write(source, text);
  REQUIRE(name_of(f->sync_all()) == "ok");
  OpenFlags flags;
  flags.read = flags.write = true;
  flags.data_sync = synchronous;
  const auto handle = f->open_file(target, flags);
  REQUIRE(handle.ok());
  const auto done = f->copy_range({source, 0, 0}, {target, *handle, 0}, 1 << 20, 0);
  REQUIRE(name_of(done) == "ok");
  f.power_failure(CrashPolicy::drop_all, 1);
  CHECK(f.fsck() == "");
  f.mount();
  CHECK(f.read(f.find(kRootIno, "target")) == (synchronous ? text : ""));
  CHECK(f.read(f.find(kRootIno, "source")) == text);
}

// The kernel's cache asks only for what lies inside the file as it knows it.
TEST_CASE("behind the end we know there is a hole when the kernel caches writes", "[fs][clone]") {
  const CacheMode cache = GENERATE(CacheMode::kernel, CacheMode::through, CacheMode::daemon);
  TestFs f(Backing::memory_device);
  f.options.cache = cache;
  f.mount();
  const Ino source = f.make_file(kRootIno, "source");
  const Ino target = f.make_file(kRootIno, "target");
  f.write(source, text_of(1, 'a'));
  f.write(target, text_of(4, 'k'));
  CHECK(f->copy_range({source, 0, kBlockSize}, {target, 0, kBlockSize}, 9000, 0).value() == 0);
  OpenFlags flags;
  flags.write = true;
  const auto handle = f->open_file(source, flags);
  REQUIRE(handle.ok());
  const uint64_t expected = cache == CacheMode::kernel ? 9000 : 0;
  CHECK(f->copy_range({source, *handle, kBlockSize}, {target, 0, kBlockSize}, 9000, 0).value() ==
        expected);
  std::string text = text_of(4, 'k');
  std::fill_n(text.begin() + kBlockSize, expected, '\0');
  CHECK(f.read(target) == text);
  f->release(*handle);
  f.unmount();
  CHECK(f.fsck() == "");
}

TEST_CASE("damage of a shared block is named until the last file gives it up", "[fs][clone]") {
  const bool first_goes = GENERATE(true, false);
  TestFs f(Backing::memory_device);
  f.mount();
  const Ino first = f.make_file(kRootIno, "first");
  const Ino second = f.make_file(kRootIno, "second");
  const std::string text = text_of(16, 'a');
  f.write(first, text);
  REQUIRE(copied(f, first, second, text.size()) == std::to_string(text.size()));
  REQUIRE(name_of(f->sync_all()) == "ok");
  const Lba lba = f->mapped_runs(first, 3, 4).value().front().lba;
  AlignedBuffer block(kBlockSize);
  REQUIRE(f.device->read(lba, block.span()).ok());
  block.span()[5] ^= std::byte{1};
  REQUIRE(f.device->write(lba, block.span()).ok());
  REQUIRE(f.device->flush().ok());

  std::vector<std::byte> out(text.size());
  for (const Ino ino : {first, second}) {
    CHECK(name_of(f->read(ino, 0, 0, out)) == "guard_mismatch");
  }
  auto list = f->damage(Lba(0), 10).value();
  REQUIRE(list.size() == 1);
  CHECK(list[0].lba == lba);
  CHECK(list[0].path == "/first");

  const Ino gone = first_goes ? first : second;
  const Ino left = first_goes ? second : first;
  f.write(gone, text);
  REQUIRE(name_of(f->sync_all()) == "ok");
  list = f->damage(Lba(0), 10).value();
  REQUIRE(list.size() == 1);
  CHECK(list[0].path == (first_goes ? "/second" : "/first"));
  CHECK(list[0].file_block == 3);
  f.unmount();
  std::string said = f.fsck();
  CHECK(said.find("damage_unmapped") == std::string::npos);
  CHECK(said.find("data_guard") != std::string::npos);
  f.mount();
  list = f->damage(Lba(0), 10).value();
  REQUIRE(list.size() == 1);
  CHECK(list[0].path == (first_goes ? "/second" : "/first"));
  SECTION("freed") {
    f.write(left, text);
    REQUIRE(name_of(f->sync_all()) == "ok");
    CHECK(f.read(left) == text);
  }
  SECTION("cleared") {
    REQUIRE(name_of(f->clear_damage()) == "ok");
    CHECK(name_of(f->read(left, 0, 0, out)) == "guard_mismatch");
    REQUIRE(f->damage(Lba(0), 10).value().size() == 1);
    f.write(left, text);
    REQUIRE(name_of(f->sync_all()) == "ok");
  }
  CHECK(f->damage(Lba(0), 10).value().empty());
  f.unmount();
  CHECK(f.fsck() == "");
}
