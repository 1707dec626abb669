// SPDX-License-Identifier: GPL-2.0-or-later
// The application tag of a file is in every tuple of it, and its data verifies all the same.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "fs_fixture.h"

using namespace stablefs;

namespace {

struct TagsFs : TestFs {
  explicit TagsFs(Interval interval) : TestFs(Backing::memory_device) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    format.interval = interval;
    REQUIRE(name_of(format_device(*device, format)) == "ok");
    mount();
  }
  void fill(Ino ino, uint64_t first_block, uint64_t blocks, char with) {
    const std::string text(blocks * kBlockSize, with);
    write(ino, text, first_block * kBlockSize);
  }
  std::vector<Run> runs(Ino ino, uint64_t end_block) {
    auto found = fs->mapped_runs(ino, 0, end_block);
    if (!found.ok()) FAIL(found.error().message());
    return std::move(*found);
  }
  // Of tuples with the tag and with any other.
  std::pair<uint64_t, uint64_t> count(Ino ino, uint64_t end_block, uint16_t app_tag) {
    std::pair<uint64_t, uint64_t> counts;
    for (const Run& run : runs(ino, end_block)) {
      for (const Tuple& tuple : run.tuples) {
        ++(tuple.app_tag == app_tag ? counts.first : counts.second);
      }
    }
    return counts;
  }
  uint64_t per_block() { return tuples_per_block(fs->store().interval()); }
};

using Counts = std::pair<uint64_t, uint64_t>;

}  // namespace

TEST_CASE("an application tag is in all tuples there are and in all that come", "[fs][tags]") {
  TagsFs f(GENERATE(Interval::block_4096, Interval::sector_512));
  const Ino ino = f.make_file(kRootIno, "file"), other = f.make_file(kRootIno, "other");
  f.fill(ino, 0, 3, 'a');     // tuples inline
  f.fill(ino, 10, 200, 'b');  // by address, with a hole before
  f.fill(other, 0, 40, 'c');
  REQUIRE(name_of(f->sync_all()) == "ok");
  CHECK(f.count(ino, 210, 0) == Counts(203 * f.per_block(), 0));

  CHECK(name_of(f->set_app_tag(ino, 0x1234)) == "ok");
  CHECK(f->app_tag(ino).value() == 0x1234);
  CHECK(f.count(ino, 210, 0x1234) == Counts(203 * f.per_block(), 0));
  CHECK(f.count(other, 40, 0) == Counts(40 * f.per_block(), 0));
  CHECK(f.runs(ino, 210)[1].kind == RunKind::hole);

  f.fill(ino, 5, 20, 'd');  // dirty while the tag changes again
  CHECK(name_of(f->set_app_tag(ino, 0xFFFE)) == "ok");
  REQUIRE(name_of(f->sync_all()) == "ok");
  CHECK(f.count(ino, 210, 0xFFFE) == Counts(208 * f.per_block(), 0));
  f.remount();
  CHECK(f->app_tag(ino).value() == 0xFFFE);
  CHECK(f.count(ino, 210, 0xFFFE) == Counts(208 * f.per_block(), 0));
  CHECK(f.read(ino).substr(0, 4) == "aaaa");
  CHECK(f.read(ino)[6 * kBlockSize] == 'd');

  CHECK(name_of(f->set_app_tag(ino, 0)) == "ok");
  CHECK(f.count(ino, 210, 0) == Counts(208 * f.per_block(), 0));
  f.unmount();
  CHECK(f.fsck().empty());
}

TEST_CASE("what cannot have an application tag is refused", "[fs][tags]") {
  TagsFs f(Interval::block_4096);
  const Ino ino = f.make_file(kRootIno, "file");
  const Ino directory = f.make_directory(kRootIno, "dir");
  CHECK(name_of(f->set_app_tag(ino, 0xFFFF)) == "invalid_argument");
  CHECK(name_of(f->set_app_tag(directory, 1)) == "not_supported");
  CHECK(name_of(f->app_tag(directory)) == "not_supported");
  CHECK(name_of(f->mapped_runs(directory, 0, 1)) == "not_supported");
  CHECK(name_of(f->mapped_runs(ino, 1, 1)) == "invalid_argument");
  CHECK(f->app_tag(ino).value() == 0);
}

// The chain has several transactions: a crash may cut it, never the data.
TEST_CASE("a crash while tuples are put anew leaves a file that verifies", "[fs][tags]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  constexpr uint64_t kBlocks = 6000;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    TagsFs f(interval);
    const Ino ino = f.make_file(kRootIno, "file");
    for (uint64_t at = 0; at < kBlocks; at += 250) f.fill(ino, at, 250, 'x');
    REQUIRE(name_of(f->sync_all()) == "ok");
    const uint64_t transactions = f->store().last_sequence().value;
    CHECK(name_of(f->set_app_tag(ino, 7)) == "ok");
    CHECK(f->store().last_sequence().value >= transactions + 2);
    CHECK(f.count(ino, kBlocks, 7) == Counts(kBlocks * f.per_block(), 0));
    // What the device holds when the last of them are still in memory.
    f.power_failure(CrashPolicy::subset, seed);
    f.mount();
    const Counts counts = f.count(ino, kBlocks, 7);
    CHECK(counts.first + counts.second == kBlocks * f.per_block());
    CHECK((counts.second == 0 || f.count(ino, kBlocks, 0).first == counts.second));
    CHECK(name_of(f->set_app_tag(ino, 7)) == "ok");
    CHECK(f.count(ino, kBlocks, 7) == Counts(kBlocks * f.per_block(), 0));
    f.unmount();
    CHECK(f.fsck().empty());
  }
}
