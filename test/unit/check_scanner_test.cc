// SPDX-License-Identifier: GPL-2.0-or-later
// The scanner against a store that misbehaves.
#include <catch2/catch.hpp>

#include "check/scanner.h"

using namespace stablefs;

namespace {

Error unused() {
  return ErrorCode::not_supported;
}

class FakeStore final : public Store {
 public:
  std::vector<Item> items;
  bool fails = false;
  std::vector<std::pair<Key, Key>> asked;

  Result<std::vector<Item>> scan(const Key& first, const Key& last, size_t) override {
    asked.emplace_back(first, last);
    if (fails) return ErrorCode::node_checksum;
    return items;
  }

  Status close() override { return unused(); }
  void stop(ErrorCode) override {}
  Result<std::optional<std::vector<std::byte>>> get(const Key&) override { return unused(); }
  Result<std::optional<Item>> floor(const Key&, const Key&) override { return unused(); }
  ReadPin pin() override { return {}; }
  Result<Sequence> commit(const Transaction&, bool, JournalReservation*) override {
    return unused();
  }
  Result<JournalReservation> reserve_journal(uint64_t) override { return unused(); }
  Status sync(Sequence) override { return unused(); }
  Sequence last_sequence() const override { return {}; }
  Sequence durable_sequence() const override { return {}; }
  Status checkpoint() override { return unused(); }
  Result<SpaceReservation> reserve_space(uint64_t, SpaceUse) override { return unused(); }
  Result<BlockRange> allocate(SpaceReservation&, uint64_t, Lba) override { return unused(); }
  void give_back(BlockRange) override {}
  SpaceUsage space_usage() override { return {}; }
  Result<uint64_t> discard_free(BlockRange, uint64_t) override { return uint64_t{0}; }
  Ino new_ino() override { return {}; }
  const DiskSuperblock& superblock() const override { return superblock_; }
  Interval interval() const override { return Interval::block_4096; }
  std::optional<Error> failure() const override { return std::nullopt; }
  const StoreCounters& counters() const override { return counters_; }
  StoreGauges gauges() override { return {}; }
  void visit_nodes(const std::function<void(const NodeView&, const Status&)>&) override {}
  Result<bool> is_allocated(Lba) override { return unused(); }
  Result<std::vector<std::byte>> group_bitmap(uint32_t) override { return unused(); }

 private:
  void release_space(uint64_t) override {}
  void release_journal(uint64_t) override {}
  void release_pin(uint64_t) override {}
  DiskSuperblock superblock_{};
  StoreCounters counters_;
};

struct Harness {
  FakeStore store;
  CheckOptions options;
  CheckReport report;
  std::vector<std::string> found;
  uint64_t visited = 0;

  bool scan(std::vector<KeyRange> damaged = {}) {
    options.report = [this](const Problem& problem) { found.push_back(problem_name(problem.id)); };
    Reporter reporter(options, report);
    return Scanner(store, std::move(damaged))
        .for_each(Key::minimum(), Key::maximum(), reporter, [this](const Item&) { ++visited; });
  }
};

}  // namespace

TEST_CASE("check: scan_failed", "[check]") {
  Harness harness;
  harness.store.fails = true;
  CHECK_FALSE(harness.scan());
  CHECK(harness.found == std::vector<std::string>{"scan_failed"});
}

TEST_CASE("check: scan_order, and the scan ends", "[check]") {
  Harness harness;
  harness.store.items = {{Key(2, 1, 0), {}}, {Key(1, 1, 0), {}}};
  CHECK_FALSE(harness.scan());
  CHECK(harness.found == std::vector<std::string>{"scan_order"});
  CHECK(harness.visited == 1);
}

TEST_CASE("the scanner asks for nothing inside damaged parts", "[check]") {
  Harness harness;
  CHECK(harness.scan(
      {{Key(7, 0, 0), std::nullopt}, {Key(2, 1, 0), Key(3, 0, 0)}, {Key(2, 1, 5), Key(2, 1, 9)}}));
  using Asked = std::vector<std::pair<Key, Key>>;
  CHECK(harness.store.asked ==
        Asked{{Key::minimum(), Key(2, 0, ~0ull)}, {Key(3, 0, 0), Key(6, 0xFF, ~0ull)}});
  harness.store.asked.clear();
  CHECK(harness.scan({{Key::minimum(), Key(3, 0, 0)}}));
  CHECK(harness.store.asked == Asked{{Key(3, 0, 0), Key::maximum()}});
}

TEST_CASE("the scanner knows which objects have hidden items", "[check]") {
  FakeStore store;
  const Scanner scanner(store, {{Key(2, 1, 0), Key(3, 0, 0)}});
  CHECK(scanner.hides(Key(2, 0, 0), Key(2, 0xFF, ~0ull)));
  CHECK_FALSE(scanner.hides(Key(1, 0, 0), Key(1, 0xFF, ~0ull)));
  CHECK_FALSE(scanner.hides(Key(3, 0, 0), Key(3, 0xFF, ~0ull)));
}
