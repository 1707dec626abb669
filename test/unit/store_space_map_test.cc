// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "base/prng.h"
#include "store/space_map.h"

using namespace stablefs;

namespace {

SpaceMap empty_map(uint64_t blocks) {
  uint32_t groups = static_cast<uint32_t>((blocks + kGroupBlocks - 1) / kGroupBlocks);
  std::vector<DiskSpaceEntry> table(groups);
  for (uint32_t g = 0; g < groups; ++g) {
    table[g].checksum = 0;
    table[g].free_and_slot =
        static_cast<uint32_t>(std::min(kGroupBlocks, blocks - g * kGroupBlocks));
  }
  SpaceMap map(blocks);
  map.load_table(table);
  std::vector<std::byte> zeros(kBlockSize);
  for (uint32_t g = 0; g < groups; ++g) map.install(g, zeros);
  return map;
}

}  // namespace

TEST_CASE("blocks are handed out once, and again only after they were released", "[store][space]") {
  const uint64_t blocks = 3 * kGroupBlocks - 777;
  SpaceMap map = empty_map(blocks);
  Prng prng(GENERATE(1, 2, 3));
  enum State : uint8_t { free, in_flight, committed, pending };
  std::vector<uint8_t> model(blocks, free);
  std::vector<BlockRange> flying, live, freed;
  auto count = [&](uint8_t state) {
    return static_cast<uint64_t>(std::count(model.begin(), model.end(), state));
  };
  auto mark = [&](BlockRange range, uint8_t from, uint8_t to) {
    for (uint64_t b = range.start.value; b < range.end().value; ++b) {
      REQUIRE(model[b] == from);
      model[b] = to;
    }
  };
  auto pick = [&](std::vector<BlockRange>& from) {
    size_t i = prng.below(from.size());
    BlockRange range = from[i];
    from[i] = from.back();
    from.pop_back();
    return range;
  };
  for (int step = 0; step < 4000; ++step) {
    switch (prng.below(5)) {
      case 0:
      case 1:
        if (auto range = map.allocate(1 + prng.below(300), Lba(prng.below(blocks)))) {
          mark(*range, free, in_flight);
          flying.push_back(*range);
        } else {
          REQUIRE(count(free) == 0);
        }
        break;
      case 2:
        if (!flying.empty()) {
          BlockRange range = pick(flying);
          if (prng.chance(4)) {
            map.give_back(range);
            mark(range, in_flight, free);
          } else {
            REQUIRE(map.commit_allocation(range, true));
            mark(range, in_flight, committed);
            live.push_back(range);
          }
        }
        break;
      case 3:
        if (!live.empty()) {
          BlockRange range = pick(live);
          REQUIRE(map.commit_free(range));
          mark(range, committed, pending);
          freed.push_back(range);
        }
        break;
      case 4:
        if (!freed.empty()) {
          BlockRange range = pick(freed);
          map.release_freed(range);
          mark(range, pending, free);
        }
        break;
    }
  }
  REQUIRE(map.available() == count(free));
  REQUIRE(map.uncommitted() == blocks - count(committed));
  REQUIRE(map.pending_free() == count(pending));
  for (uint64_t b = 0; b < blocks; ++b) {
    if (map.is_committed(Lba(b)) != (model[b] == committed)) FAIL("block " << b);
  }
}

TEST_CASE("impossible changes are refused and change nothing", "[store][space]") {
  SpaceMap map = empty_map(kGroupBlocks);
  auto range = map.allocate(10, Lba(100));
  REQUIRE(range == BlockRange{Lba(100), 10});
  REQUIRE(map.commit_allocation(*range, true));
  REQUIRE_FALSE(map.commit_allocation(*range, true));
  REQUIRE_FALSE(map.commit_free({Lba(105), 10}));
  REQUIRE_FALSE(map.commit_free({Lba(kGroupBlocks - 1), 2}));
  REQUIRE(map.uncommitted() == kGroupBlocks - 10);
}

TEST_CASE("a freeze names the other slot of every changed bitmap", "[store][space]") {
  SpaceMap map = empty_map(2 * kGroupBlocks);
  REQUIRE(map.commit_allocation({Lba(5), 3}, false));
  auto first = map.freeze();
  REQUIRE(first.size() == 1);
  REQUIRE(first[0].slot == 1);
  REQUIRE(first[0].free_blocks == kGroupBlocks - 3);
  REQUIRE(map.freeze().empty());
  REQUIRE(map.commit_free({Lba(5), 1}));
  auto second = map.freeze();
  REQUIRE(second.size() == 1);
  REQUIRE(second[0].slot == 0);
}
