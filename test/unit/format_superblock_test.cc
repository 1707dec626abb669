// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <string>

#include "base/prng.h"
#include "format/superblock.h"

using namespace stablefs;

namespace {

constexpr uint64_t kBlocks = 16384;  // 64 MiB

DiskSuperblock good_superblock(uint8_t copies = 1) {
  const Layout layout = make_layout(kBlocks, 0).value();
  DiskSuperblock s{};
  s.magic = kSuperblockMagic;
  s.version = kFormatVersion;
  s.incompatible_features = copies == 2 ? uint64_t{kFeatureCopies2} : 0;
  std::memset(s.uuid, 0xAB, sizeof s.uuid);
  std::memcpy(s.label, "test", 4);
  s.block_count = layout.block_count;
  s.block_size = kBlockSize;
  s.interval = 4096;
  s.guard_format = 1;
  s.copies = copies;
  s.dirty_node_limit = layout.dirty_node_limit;
  s.journal_start = layout.journal_start;
  s.journal_length_blocks = layout.journal_length_blocks;
  s.bitmap_start = layout.bitmap_start;
  s.space_table_start = layout.space_table_start;
  s.space_table_blocks = layout.space_table_blocks;
  s.group_count = layout.group_count;
  s.generation = 7;
  s.root.lba[0] = layout.first_free;
  s.root.lba[1] = copies == 2 ? layout.first_free + 9000 : 0;
  s.root.generation = 6;
  s.sequence = 40;
  s.flushed_sequence = 41;
  s.next_ino = 2;
  s.free_blocks = kBlocks - layout.first_free - 2 - copies;
  seal_superblock(s);
  return s;
}

ErrorCode verdict(const DiskSuperblock& s, uint64_t device_blocks = kBlocks) {
  const Status status = validate_superblock(s, device_blocks);
  REQUIRE_FALSE(status.ok());
  return status.error().code();
}

}  // namespace

TEST_CASE("a sealed superblock is valid", "[format]") {
  CHECK(validate_superblock(good_superblock(), kBlocks).ok());
  CHECK(validate_superblock(good_superblock(), kBlocks + 5).ok());
  CHECK(validate_superblock(good_superblock(2), kBlocks).ok());
}

TEST_CASE("every flipped bit of a superblock is noticed", "[format]") {
  DiskSuperblock s = good_superblock();
  auto* bytes = reinterpret_cast<uint8_t*>(&s);
  for (size_t bit = 0; bit < sizeof s * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    REQUIRE_FALSE(validate_superblock(s, kBlocks).ok());
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
  CHECK(validate_superblock(s, kBlocks).ok());
}

TEST_CASE("a superblock with one impossible field is refused even when sealed", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(DiskSuperblock&)> apply;
    ErrorCode expected = ErrorCode::superblock_fields;
  };
  const Damage damages[] = {
      {"magic", [](auto& s) { s.magic = s.magic + 1; }, ErrorCode::superblock_magic},
      {"version", [](auto& s) { s.version = 2; }, ErrorCode::superblock_version},
      {"feature", [](auto& s) { s.incompatible_features = 1u << 9; },
       ErrorCode::superblock_features},
      {"block size", [](auto& s) { s.block_size = 512; }},
      {"interval", [](auto& s) { s.interval = 1024; }},
      {"interval without feature", [](auto& s) { s.interval = 512; }},
      {"feature without interval", [](auto& s) { s.incompatible_features = kFeatureInterval512; }},
      {"guard format", [](auto& s) { s.guard_format = 0; }},
      {"copies 0", [](auto& s) { s.copies = 0; }},
      {"copies 3", [](auto& s) { s.copies = 3; }},
      {"copies without feature", [](auto& s) { s.copies = 2; }},
      {"clean", [](auto& s) { s.clean = 2; }},
      {"slot", [](auto& s) { s.space_table_slot = 2; }},
      {"label end", [](auto& s) { std::memset(s.label, 'x', sizeof s.label); }},
      {"label padding", [](auto& s) { s.label[40] = 'x'; }},
      {"reserved0", [](auto& s) { s.reserved0 = 1; }},
      {"reserved", [](auto& s) { s.reserved[sizeof s.reserved - 1] = 1; }},
      {"unwritten block count", [](auto& s) { s.unwritten_blocks = s.block_count; }},
      {"block count", [](auto& s) { s.block_count = kBlocks + 1; }},
      {"tiny block count", [](auto& s) { s.block_count = 100; }},
      {"huge block count", [](auto& s) { s.block_count = ~0ull; }},
      {"dirty limit 0", [](auto& s) { s.dirty_node_limit = 0; }},
      {"dirty limit huge", [](auto& s) { s.dirty_node_limit = 1u << 20; }},
      {"group count", [](auto& s) { s.group_count = s.group_count + 1; }},
      {"space table length", [](auto& s) { s.space_table_blocks = 7; }},
      {"journal length", [](auto& s) { s.journal_length_blocks = 1; }},
      {"huge journal", [](auto& s) { s.journal_length_blocks = ~0ull - 4; }},
      {"journal start", [](auto& s) { s.journal_start = 2; }},
      {"journal start far", [](auto& s) { s.journal_start = ~0ull - 100; }},
      {"bitmap start", [](auto& s) { s.bitmap_start = s.journal_start + 1; }},
      {"bitmap start far", [](auto& s) { s.bitmap_start = ~0ull; }},
      {"space table start", [](auto& s) { s.space_table_start = uint64_t{s.bitmap_start}; }},
      {"space table at the end", [](auto& s) { s.space_table_start = kBlocks - 2; }},
      {"generation 0", [](auto& s) { s.generation = 0; }},
      {"generation overflow", [](auto& s) { s.generation = ~0ull; }},
      {"root generation 0", [](auto& s) { s.root.generation = 0; }},
      {"root from the future", [](auto& s) { s.root.generation = 8; }},
      {"root address 0", [](auto& s) { s.root.lba[0] = 0; }},
      {"root in the journal", [](auto& s) { s.root.lba[0] = s.journal_start + 1; }},
      {"root at the end", [](auto& s) { s.root.lba[0] = kBlocks - 1; }},
      {"second root", [](auto& s) { s.root.lba[1] = 5000; }},
      {"root reserved", [](auto& s) { s.root.reserved = 1; }},
      {"root level", [](auto& s) { s.root_level = 16; }},
      {"sequence", [](auto& s) { s.sequence = ~0ull; }},
      {"flushed sequence", [](auto& s) { s.flushed_sequence = ~0ull; }},
      {"journal tail", [](auto& s) { s.journal_tail_block = uint64_t{s.journal_length_blocks}; }},
      {"next ino", [](auto& s) { s.next_ino = 1; }},
      {"free blocks", [](auto& s) { s.free_blocks = kBlocks; }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    DiskSuperblock s = good_superblock();
    damage.apply(s);
    seal_superblock(s);
    CHECK(verdict(s) == damage.expected);
  }
}

TEST_CASE("two copies of the root must be at two places", "[format]") {
  DiskSuperblock s = good_superblock(2);
  s.root.lba[1] = 0;
  seal_superblock(s);
  CHECK(verdict(s) == ErrorCode::superblock_fields);
  s.root.lba[1] = uint64_t{s.root.lba[0]};
  seal_superblock(s);
  CHECK(verdict(s) == ErrorCode::superblock_fields);
}

TEST_CASE("random superblocks with good seals never crash validation or text", "[format]") {
  Prng prng(11);
  for (int round = 0; round < 3000; ++round) {
    DiskSuperblock s = good_superblock(1 + round % 2);
    auto* bytes = reinterpret_cast<uint8_t*>(&s);
    const uint64_t changes = 1 + prng.below(40);
    for (uint64_t i = 0; i < changes; ++i) {
      const uint64_t at = 16 + prng.below(320);
      bytes[at] = prng.chance(3) ? 0xFF : static_cast<uint8_t>(prng.next());
    }
    seal_superblock(s);
    if (validate_superblock(s, kBlocks).ok()) {
      for (const BlockRange& range : fixed_regions(s)) CHECK(range.end().value <= kBlocks);
    }
    CHECK_FALSE(superblock_to_text(s).empty());
  }
}

TEST_CASE("layouts of all sizes are valid superblocks with a journal of at most an eighth",
          "[format]") {
  for (uint64_t blocks :
       {4096ull, 5000ull, 16384ull, 32768ull, 32769ull, 2097152ull, 1ull << 30, 1ull << 40}) {
    INFO(blocks);
    const Layout layout = make_layout(blocks, 0).value();
    CHECK(layout.journal_length_blocks >= 256);
    CHECK(layout.journal_length_blocks <= blocks / 8);
    CHECK(layout.journal_length_blocks <= 262144);
    CHECK(layout.first_free < blocks / 4);
    DiskSuperblock s = good_superblock();
    s.block_count = blocks;
    s.dirty_node_limit = layout.dirty_node_limit;
    s.journal_start = layout.journal_start;
    s.journal_length_blocks = layout.journal_length_blocks;
    s.bitmap_start = layout.bitmap_start;
    s.space_table_start = layout.space_table_start;
    s.space_table_blocks = layout.space_table_blocks;
    s.group_count = layout.group_count;
    s.root.lba[0] = layout.first_free;
    s.free_blocks = 0;
    seal_superblock(s);
    CHECK(validate_superblock(s, blocks).ok());
    CHECK(fixed_regions(s)[0] == BlockRange{Lba(0), layout.first_free});
    CHECK(fixed_regions(s)[1] == BlockRange{Lba(blocks - 2), 2});
  }
}

TEST_CASE("a layout refuses devices and journals of impossible size", "[format]") {
  CHECK(make_layout(4095, 0).error().code() == ErrorCode::device_too_small);
  CHECK(make_layout(~0ull, 0).error().code() == ErrorCode::invalid_argument);
  CHECK(make_layout(kBlocks, 255).error().code() == ErrorCode::invalid_argument);
  CHECK(make_layout(kBlocks, kBlocks / 8 + 1).error().code() == ErrorCode::invalid_argument);
  CHECK(make_layout(kBlocks, kBlocks / 8).ok());
}

TEST_CASE("each generation has one superblock slot at either end", "[format]") {
  CHECK(superblock_slots(Generation(6)) == std::array<uint64_t, 2>{0, 2});
  CHECK(superblock_slots(Generation(7)) == std::array<uint64_t, 2>{1, 3});
  CHECK(superblock_lba(0, 100) == Lba(1));
  CHECK(superblock_lba(1, 100) == Lba(2));
  CHECK(superblock_lba(2, 100) == Lba(98));
  CHECK(superblock_lba(3, 100) == Lba(99));
}

TEST_CASE("superblock text shows the label without terminal control characters", "[format]") {
  DiskSuperblock s = good_superblock();
  std::memcpy(s.label, "a\x1b[2J", 5);
  const std::string text = superblock_to_text(s);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("a\\x1b[2J") != std::string::npos);
}
