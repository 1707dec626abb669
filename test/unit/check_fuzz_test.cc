// SPDX-License-Identifier: GPL-2.0-or-later
// Damage of all kinds must end in findings, never in a crash, a hang or silence.
#include <catch2/catch.hpp>

#include "base/prng.h"
#include "check/dump.h"
#include "check_fixture.h"

using namespace stablefs;
using Fixture = CheckFixture;

namespace {

// Everything that reads the image; findings and errors are fine.
void read_everything(BlockDevice& device) {
  ManualClock clock;
  NullLogger logger;
  CheckOptions options;
  options.verify_data = true;
  (void)check_filesystem(device, options, clock, logger);
  auto ignore = [](std::string_view) {};
  (void)dump_superblock(device, ignore);
  (void)dump_journal(device, ignore);
  (void)dump_tree(device, ignore);
  (void)dump_space(device, ignore);
  (void)dump_inode(device, Ino(Fixture::kFile), clock, logger, ignore);
}

void change_bytes(Prng& prng, std::span<std::byte> bytes) {
  for (uint64_t i = 1 + prng.below(4); i > 0; --i) {
    std::byte& b = bytes[prng.below(bytes.size())];
    b = static_cast<std::byte>(prng.chance(3) ? 0xFF : prng.next());
  }
}

}  // namespace

TEST_CASE("random bytes anywhere in the metadata never crash checker or dump", "[check]") {
  Prng prng(15);
  Fixture pristine(static_cast<uint8_t>(GENERATE(1, 2)));
  pristine.commit([&](Transaction& t) { pristine.put_any(t); }, true);
  const MemoryImage image = pristine.device().image();
  const uint64_t first_free = fixed_regions(pristine.superblock())[0].length_blocks;
  for (int round = 0; round < 40; ++round) {
    MemoryDevice device(image);
    for (uint64_t i = 0; i < 4; ++i) {
      const Lba lba(prng.chance(2) ? first_free + prng.below(400) : prng.below(first_free));
      AlignedBuffer block(kBlockSize);
      REQUIRE(device.read(lba, block.span()).ok());
      change_bytes(prng, block.span());
      REQUIRE(device.write(lba, block.span()).ok());
    }
    read_everything(device);
  }
}

TEST_CASE("nodes with random contents and good checksums never crash checker or dump", "[check]") {
  Prng prng(16);
  for (int round = 0; round < 150; ++round) {
    Fixture fixture;
    const uint32_t level = static_cast<uint32_t>(prng.below(fixture.superblock().root_level + 1u));
    const Key key(prng.chance(3) ? 0 : prng.below(250), static_cast<uint8_t>(prng.below(20)), 0);
    fixture.change_node(key, level, [&](std::span<std::byte> image) {
      // Headers and slots matter more than the values at the end of the block.
      change_bytes(prng, prng.chance(2) ? image.subspan(24, 600) : image.subspan(24));
    });
    read_everything(fixture.device());
  }
}

TEST_CASE("superblocks with random fields and good checksums never crash checker or dump",
          "[check]") {
  Prng prng(17);
  Fixture pristine;
  const MemoryImage image = pristine.device().image();
  for (int round = 0; round < 200; ++round) {
    MemoryDevice device(image);
    DiskSuperblock s = pristine.superblock();
    change_bytes(prng, std::as_writable_bytes(std::span<DiskSuperblock, 1>(&s, 1)).first(336));
    s.magic = kSuperblockMagic;
    seal_superblock(s);
    AlignedBuffer block(kBlockSize);
    std::memcpy(block.data(), &s, sizeof s);
    for (uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
      REQUIRE(device.write(superblock_lba(slot, Fixture::kBlocks), block.span()).ok());
    }
    read_everything(device);
  }
}

TEST_CASE("bitmaps with random bits and good checksums are found out", "[check]") {
  Prng prng(18);
  for (int round = 0; round < 50; ++round) {
    Fixture fixture;
    fixture.change_group(
        static_cast<uint32_t>(prng.below(2)), [&](std::span<std::byte> bitmap, DiskSpaceEntry&) {
          bitmap[prng.below(bitmap.size())] ^= static_cast<std::byte>(1 + prng.below(255));
        });
    const auto found = fixture.check();
    CHECK((found.count("group_free_count") == 1 || found.count("bitmap_invalid") == 1 ||
           found.count("block_leaked") == 1));
    CHECK_FALSE(fixture.report().clean());
  }
}
