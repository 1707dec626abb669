// SPDX-License-Identifier: GPL-2.0-or-later
// Replacing and removing ranges of extents against a block-by-block model, on the real store, which
// refuses a wrong allocation, free or deletion.
#include <algorithm>

#include "data/extent_map.h"
#include "data_fixture.h"

using namespace stablefs;

namespace {

struct Block {
  uint64_t lba = 0;
  std::vector<Tuple> tuples;
};
using Model = std::map<uint64_t, Block>;

class ExtentFixture : public DataFixture {
 public:
  explicit ExtentFixture(const DataSetup& setup) : DataFixture(setup), prng(setup.seed) {
    for (int i = 0; i < 2; ++i) {
      make_file();
      models.emplace_back();
    }
  }

  Ino ino(size_t file) { return inodes[file]->ino; }

  // What the finishing of an ordered extent does; true when the whole range fitted.
  bool replace(size_t file, uint64_t first, uint64_t length, uint64_t want) {
    const ExtentMap map(*store, ino(file));
    const auto cost = map.replacement_cost(first, length);
    REQUIRE(what(cost) == "ok");
    REQUIRE(cost->length_blocks >= 1);
    auto space = store->reserve_space(cost->length_blocks);
    REQUIRE(what(space) == "ok");
    const auto range = store->allocate(*space, std::min(want, cost->length_blocks), goal);
    REQUIRE(what(range) == "ok");
    goal = range->end();
    const uint32_t per_block = tuples_per_block(setup.interval);
    std::vector<Tuple> tuples(range->length_blocks * per_block);
    for (Tuple& tuple : tuples) tuple.guard = static_cast<uint16_t>(prng.next());
    const std::vector<uint32_t> checksums(range->length_blocks, 7);

    Transaction transaction;
    const auto delta = map.replace(transaction, {first, *range, tuples, checksums});
    REQUIRE(what(delta) == "ok");
    CHECK(transaction.size_bytes() + sizeof(DiskInode) + 20 <= cost->bytes);
    int64_t expected = 0;
    Model& model = models[file];
    for (uint64_t i = 0; i < range->length_blocks; ++i) {
      expected += !model.contains(first + i);
      const auto from = tuples.begin() + static_cast<ptrdiff_t>(i * per_block);
      model[first + i] = {range->start.value + i, {from, from + per_block}};
    }
    CHECK(delta->block_delta == expected);
    commit(file, transaction, delta->block_delta);
    return cost->length_blocks == length;
  }

  void remove(size_t file, uint64_t first, uint64_t end, size_t limit) {
    const ExtentMap map(*store, ino(file));
    uint64_t at = first;
    while (at != kEndOfFileBlocks) {
      Transaction transaction;
      const auto removal = map.remove(transaction, at, end, limit);
      REQUIRE(what(removal) == "ok");
      CHECK(transaction.size_bytes() < kMaxTransactionBytes);
      Model& model = models[file];
      const auto from = model.lower_bound(at);
      const auto to = model.lower_bound(std::min(end, removal->next_block));
      CHECK(removal->blocks_freed == static_cast<uint64_t>(std::distance(from, to)));
      model.erase(from, to);
      at = removal->next_block;
      if (!transaction.empty()) {
        commit(file, transaction, -static_cast<int64_t>(removal->blocks_freed));
      }
    }
  }

  void commit(size_t file, Transaction& transaction, int64_t delta) {
    MutexLock lock(inodes[file]->mutex);
    InodeAttributes& attributes = inodes[file]->attributes;
    attributes.block_count += static_cast<uint64_t>(delta);
    attributes.size_bytes = attributes.disk_size_bytes = kMaxFileBytes;
    transaction.put_struct(Key(ino(file), ItemKind::inode, 0), to_disk(attributes));
    REQUIRE(what(store->commit(transaction, false)) == "ok");
  }

  void check_lookup(size_t file, uint64_t first, uint64_t end) {
    const ExtentMap map(*store, ino(file));
    const auto runs = map.lookup(first, end);
    REQUIRE(what(runs) == "ok");
    const Model& model = models[file];
    const uint32_t per_block = tuples_per_block(setup.interval);
    uint64_t at = first;
    for (const Run& run : *runs) {
      REQUIRE(run.first_block == at);
      REQUIRE(run.length_blocks > 0);
      for (; at < run.end_block(); ++at) {
        const auto block = model.find(at);
        REQUIRE((run.kind == RunKind::written) == (block != model.end()));
        if (block == model.end()) continue;
        const uint64_t skip = at - run.first_block;
        REQUIRE(run.lba.value + skip == block->second.lba);
        REQUIRE(std::memcmp(run.tuples.data() + skip * per_block, block->second.tuples.data(),
                            per_block * sizeof(Tuple)) == 0);
      }
    }
    REQUIRE(at == end);
    const Run run = map.run_at(first).value();
    CHECK((run.kind == RunKind::written) == model.contains(first));
    CHECK(run.first_block == first);
    const auto next = model.lower_bound(first);
    if (run.kind == RunKind::hole) {
      CHECK(run.end_block() == (next == model.end() ? kEndOfFileBlocks : next->first));
    }
  }

  Prng prng;
  Lba goal;
  std::vector<Model> models;
};

}  // namespace

TEST_CASE("replaced and removed ranges agree with a model, items and space included", "[data]") {
  const uint64_t seed = GENERATE(range(1, 9));
  INFO("seed " << seed);
  DataSetup setup;
  setup.interval = seed % 2 == 0 ? Interval::sector_512 : Interval::block_4096;
  setup.seed = seed;
  ExtentFixture f(setup);
  const uint64_t allocated_at_start = f.allocated_blocks();
  Prng& prng = f.prng;
  for (int round = 0; round < 1500; ++round) {
    const size_t file = prng.below(2);
    const uint64_t longest = prng.chance(20) ? 600 : prng.chance(3) ? 70 : 10;
    const uint64_t first = prng.below(prng.chance(2) ? 100 : 2000);
    const uint64_t length = 1 + prng.below(longest);
    if (prng.chance(4)) {
      f.remove(file, first, prng.chance(20) ? kEndOfFileBlocks : first + length,
               prng.chance(2) ? 1000 : 96 * 1024);
    } else {
      // Scattered allocations make extents that cannot merge.
      if (prng.chance(3)) f.goal = Lba(1000 + prng.below(10000));
      f.replace(file, first, length, prng.chance(3) ? 1 + prng.below(length) : length);
    }
    const uint64_t from = prng.below(2000);
    f.check_lookup(file, from, from + 1 + prng.below(150));
    if (round % 100 == 0) REQUIRE(f.check_items() == "");
    if (round % 300 == 0) REQUIRE(f.store->sync(f.store->last_sequence()).ok());
  }
  for (size_t file = 0; file < 2; ++file) {
    f.check_lookup(file, 0, 3000);
    f.remove(file, 0, kEndOfFileBlocks, 96 * 1024);
  }
  REQUIRE(f.check_items() == "");
  CHECK(f.allocated_blocks() == allocated_at_start);
}

TEST_CASE("sequential pieces that continue each other become one extent", "[data]") {
  DataSetup setup;
  ExtentFixture f(setup);
  const auto extents = [&] {
    return f.store
        ->scan(Key(f.ino(0), ItemKind::extent, 0), Key(f.ino(0), ItemKind::extent, ~0ull), 1000)
        .value()
        .size();
  };
  for (uint64_t at = 0; at < 640; at += 64) f.replace(0, at, 64, 64);
  CHECK(extents() == 1);
  f.check_lookup(0, 0, 700);
  f.goal = Lba(9000);
  for (uint64_t at = 1000; at < 1008; ++at) f.replace(0, at, 1, 1);
  CHECK(extents() == 2);  // small ones as far as their tuples fit inline
  f.replace(0, 1008, 1, 1);
  CHECK(extents() == 3);
  CHECK(f.check_items() == "");
}

TEST_CASE("a range with very many old extents is cut to what one transaction takes", "[data]") {
  DataSetup setup;
  setup.interval = Interval::sector_512;
  ExtentFixture f(setup);
  f.replace(0, 0, 1000, 1000);
  // Every second block on its own: the rest of the long extent is as many pieces with keyed tuples.
  for (uint64_t at = 1; at < 1000; at += 2) {
    f.goal = Lba(5000 + at * 3);
    f.replace(0, at, 1, 1);
  }
  uint64_t at = 0;
  int pieces = 0;
  while (at < 1000) {
    const auto cost = ExtentMap(*f.store, f.ino(0)).replacement_cost(at, 1000 - at);
    REQUIRE(cost.ok());
    f.goal = Lba(10000);
    f.replace(0, at, cost->length_blocks, cost->length_blocks);
    at += cost->length_blocks;
    ++pieces;
  }
  CHECK(pieces > 1);
  f.check_lookup(0, 0, 1000);
  CHECK(f.check_items() == "");
}

TEST_CASE("a mapping that makes no sense is an error, not a crash", "[data]") {
  DataSetup setup;
  ExtentFixture f(setup);
  f.replace(0, 0, 100, 100);
  const auto items =
      f.store->scan(Key::global(ItemKind::tuples, 0), Key::global(ItemKind::tuples, ~0ull), 10);
  REQUIRE(items->size() == 2);
  Transaction damage;
  damage.erase((*items)[1].key);
  REQUIRE(f.store->commit(damage, false).ok());
  const ExtentMap map(*f.store, f.ino(0));
  CHECK(map.lookup(0, 64).ok());
  const auto runs = map.lookup(0, 100);
  REQUIRE_FALSE(runs.ok());
  CHECK(runs.error().code() == ErrorCode::extent_invalid);
  Transaction transaction;
  CHECK_FALSE(map.remove(transaction, 0, kEndOfFileBlocks, 100000).ok());
}
