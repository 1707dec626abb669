// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "check/dump.h"
#include "check_fixture.h"

using namespace stablefs;
using Fixture = CheckFixture;

namespace {

template <class Function>
std::string text_of(Function function) {
  std::string text;
  const Status status = function([&](std::string_view part) { text += part; });
  if (!status.ok()) text += "ERROR " + status.error().message();
  return text;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

uint64_t count_of(const std::string& text, const std::string& part) {
  uint64_t count = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace

TEST_CASE("dump superblock shows every slot, a damaged one too", "[check]") {
  Fixture fixture;
  fixture.flip_byte(1, 4000);
  const auto text =
      text_of([&](const DumpSink& sink) { return dump_superblock(fixture.device(), sink); });
  CHECK(count_of(text, "superblock slot ") == 4);
  CHECK(count_of(text, ": valid") == 3);
  CHECK(count_of(text, "checksum is wrong") == 1);
  CHECK(count_of(text, "uuid                     01020300-") == 4);
}

TEST_CASE("dump tree shows every item and says where a node is damaged", "[check]") {
  Fixture fixture;
  auto dump = [&] {
    return text_of([&](const DumpSink& sink) { return dump_tree(fixture.device(), sink); });
  };
  const std::string text = dump();
  CHECK(text == dump());
  CHECK(contains(text, "name \"directory\""));
  CHECK(contains(text, "name \"user.many\" value of 900 bytes"));
  CHECK_FALSE(contains(text, "INVALID"));
  CHECK_FALSE(contains(text, "DAMAGED"));
  fixture.check();
  CHECK(count_of(text, "node level") == fixture.report().nodes);
  fixture.flip_byte(fixture.node_address(Fixture::inode_key(150), 0).lba[0].value);
  CHECK(contains(dump(), "DAMAGED"));
}

TEST_CASE("dump journal shows the operations that wait for replay", "[check]") {
  Fixture fixture;
  fixture.commit(
      [&](Transaction& transaction) {
        fixture.put_any(transaction);
        transaction.erase(fixture.xattr_key(100, "user.many"));
      },
      true);
  const auto text =
      text_of([&](const DumpSink& sink) { return dump_journal(fixture.device(), sink); });
  CHECK(count_of(text, "batch sequences") == 1);
  CHECK(contains(text, "put 3 xattr"));
  CHECK(contains(text, "erase 100 xattr"));
}

TEST_CASE("dump inode shows all its items, tuples and pending work", "[check]") {
  Fixture fixture(1, GENERATE(Interval::block_4096, Interval::sector_512));
  ManualClock clock;
  NullLogger logger;
  auto dump = [&](uint64_t ino) {
    return text_of([&](const DumpSink& sink) {
      return dump_inode(fixture.device(), Ino(ino), clock, logger, sink);
    });
  };
  const std::string file = dump(Fixture::kFile);
  CHECK(count_of(file, "3 extent ") == 3);
  CHECK(contains(file, "unwritten"));
  const uint64_t lba = fixture.keyed_blocks.start.value;
  CHECK(contains(file, "0 tuples " + std::to_string(lba) + ": count 64"));
  CHECK(contains(dump(Fixture::kRemoved), "0 orphan 7: remove"));
  CHECK(contains(dump(Fixture::kTruncated), "0 orphan 8: truncate from 2"));
  CHECK(contains(dump(99), "ERROR no such file or directory"));
  CHECK(contains(dump(0), "ERROR invalid argument"));
}

TEST_CASE("dump space counts what the bitmaps hold", "[check]") {
  Fixture fixture;
  auto dump = [&] {
    return text_of([&](const DumpSink& sink) { return dump_space(fixture.device(), sink); });
  };
  CHECK(count_of(dump(), "\ngroup ") == 2);
  CHECK(contains(dump(), "group 1 start 32768 blocks 7232 free 7230"));
  fixture.change_group(0, [](std::span<std::byte>, DiskSpaceEntry&) {});
  CHECK_FALSE(contains(dump(), "DAMAGED"));
  const DiskSuperblock s = fixture.superblock();
  fixture.flip_byte(s.bitmap_start);
  fixture.flip_byte(s.bitmap_start + 1);
  CHECK(contains(dump(), "DAMAGED: space bitmap checksum is wrong"));
}
