// SPDX-License-Identifier: GPL-2.0-or-later
// A test per problem: one damage, exactly that finding; and none on a sound filesystem.
#include "check/check.h"

#include <catch2/catch.hpp>
#include <set>

#include "check_fixture.h"

using namespace stablefs;
using Fixture = CheckFixture;

namespace {

template <class T>
T& at(std::span<std::byte> bytes, size_t offset) {
  return *reinterpret_cast<T*>(bytes.data() + offset);
}

DiskNodeHeader& header(std::span<std::byte> image) {
  return at<DiskNodeHeader>(image, 0);
}
DiskSlot* slots(std::span<std::byte> image) {
  return &at<DiskSlot>(image, sizeof(DiskNodeHeader));
}
DiskChild* children(std::span<std::byte> image) {
  return &at<DiskChild>(image, sizeof(DiskNodeHeader));
}

void flip_bit(std::span<std::byte> bitmap, uint64_t bit) {
  bitmap[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

}  // namespace

TEST_CASE("a sound filesystem has no problems", "[check]") {
  const uint8_t copies = GENERATE(1, 2);
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  Fixture fixture(copies, interval);
  const auto found = fixture.check(true);
  INFO(fixture.texts());
  CHECK(found.empty());
  const CheckReport& report = fixture.report();
  CHECK(report.clean());
  CHECK_FALSE(report.incomplete);
  CHECK(report.inodes == 10 + Fixture::kManyCount);
  CHECK(report.directories == 2);
  CHECK(report.symlinks == 1);
  CHECK(report.others == 1);
  CHECK(report.entries == 9 + Fixture::kManyCount);
  CHECK(report.extents == 7);
  CHECK(report.unwritten_blocks == 7);
  CHECK(report.data_blocks == 3 + 100 + 4 + 4 + 2 + 5);
  CHECK(report.verified_blocks == report.data_blocks);
  CHECK(report.orphans == 2);
  CHECK(report.nodes > 20);
  CHECK(report.free_blocks == fixture.superblock().free_blocks);
}

TEST_CASE("a freshly formatted filesystem has no problems", "[check]") {
  MemoryDevice device(4096);
  REQUIRE(format_device(device, {}).ok());
  ManualClock clock;
  NullLogger logger;
  CheckOptions options;
  options.verify_data = true;
  const auto report = check_filesystem(device, options, clock, logger);
  REQUIRE(report.ok());
  CHECK(report->clean());
  CHECK(report->degraded == 0);
  CHECK(report->inodes == 1);
}

TEST_CASE("a filesystem that crashed has no problems before its journal is replayed", "[check]") {
  const uint8_t copies = GENERATE(1, 2);
  Fixture fixture(copies);
  fixture.commit(
      [&](Transaction& transaction) {
        for (uint64_t i = 0; i < Fixture::kManyCount; i += 3) {
          const uint64_t ino = Fixture::kFirstMany + i;
          transaction.erase(Fixture::inode_key(ino));
          transaction.erase(fixture.xattr_key(ino, "user.many"));
          transaction.erase(fixture.dirent_key(Fixture::kDirectory, "many" + std::to_string(i)));
        }
        transaction.erase(Fixture::extent_key(Fixture::kFile, 200));
        transaction.free(fixture.unwritten_blocks);
        transaction.put_struct(Fixture::inode_key(Fixture::kFile),
                               Fixture::inode(S_IFREG | 0644, 1, 109 * kBlockSize + 1, 103));
      },
      true);
  const auto found = fixture.check(true);
  INFO(fixture.texts());
  CHECK(found.empty());
  CHECK(fixture.report().replayed_records == 1);
  CHECK(fixture.report().inodes == 10 + Fixture::kManyCount - Fixture::kManyCount / 3);
}

TEST_CASE("the checker writes nothing", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { fixture.put_any(t); }, true);
  const MemoryImage before = fixture.device().image();
  fixture.check(true);
  CHECK(before == fixture.device().image());
}

TEST_CASE("what is no stablefs is an error, not a list of problems", "[check]") {
  MemoryDevice device(4096);
  ManualClock clock;
  NullLogger logger;
  CHECK(check_filesystem(device, {}, clock, logger).error().code() == ErrorCode::superblock_magic);
  MemoryDevice tiny(3);
  CHECK(check_filesystem(tiny, {}, clock, logger).error().code() == ErrorCode::device_too_small);
}

TEST_CASE("every problem has a name of its own and a text", "[check]") {
  std::set<std::string> names;
  const auto last = static_cast<uint16_t>(ProblemId::data_reference_tag);
  for (uint16_t id = 0; id <= last; ++id) {
    CHECK(names.insert(problem_name(static_cast<ProblemId>(id))).second);
    CHECK(std::string(problem_text(static_cast<ProblemId>(id))).size() > 5);
  }
}

// --- superblocks and journal

TEST_CASE("check: superblock_none_valid", "[check]") {
  Fixture fixture;
  for (uint64_t slot = 0; slot < 4; ++slot) {
    fixture.flip_byte(superblock_lba(slot, Fixture::kBlocks).value);
  }
  fixture.expect_only(ProblemId::superblock_none_valid);
  CHECK(fixture.report().unreadable);
}

TEST_CASE("check: superblock_slot_invalid, in any slot", "[check]") {
  for (uint64_t slot = 0; slot < 4; ++slot) {
    Fixture fixture;
    fixture.flip_byte(superblock_lba(slot, Fixture::kBlocks).value);
    fixture.expect_only(ProblemId::superblock_slot_invalid);
  }
}

TEST_CASE("check: a crash between two superblock writes is no problem", "[check]") {
  Fixture fixture;
  const uint64_t slot = superblock_slots(Generation(fixture.superblock().generation))[1];
  const auto old = fixture.read_block<DiskSuperblock>(superblock_lba(slot, Fixture::kBlocks).value);
  fixture.with_store([](Store& store) { REQUIRE(store.checkpoint().ok()); }, true);
  while (superblock_slots(Generation(fixture.superblock().generation))[1] != slot) {
    fixture.with_store([](Store& store) { REQUIRE(store.checkpoint().ok()); }, true);
  }
  fixture.write_block(superblock_lba(slot, Fixture::kBlocks).value, old);
  CHECK(fixture.check().empty());
}

TEST_CASE("check: superblock_slot_misplaced", "[check]") {
  Fixture fixture;
  const DiskSuperblock s = fixture.superblock();
  const uint64_t other = superblock_slots(Generation(s.generation + 1))[0];
  fixture.write_block(superblock_lba(other, Fixture::kBlocks).value, s);
  fixture.expect_only(ProblemId::superblock_slot_misplaced);
}

TEST_CASE("check: superblock_slots_differ", "[check]") {
  Fixture fixture;
  DiskSuperblock s = fixture.superblock();
  s.written_seconds = s.written_seconds + 1;
  seal_superblock(s);
  const uint64_t slot = superblock_slots(Generation(s.generation))[1];
  fixture.write_block(superblock_lba(slot, Fixture::kBlocks).value, s);
  fixture.expect_only(ProblemId::superblock_slots_differ);
}

TEST_CASE("check: journal_lost when a batch in the middle is damaged", "[check]") {
  Fixture fixture;
  fixture.with_store(
      [&](Store& store) {
        for (uint64_t i = 0; i < 3; ++i) {
          Transaction transaction;
          fixture.put_any(transaction);
          REQUIRE(store.sync(store.commit(transaction, false).value()).ok());
        }
      },
      true);
  const DiskSuperblock s = fixture.superblock();
  fixture.flip_byte(s.journal_start + (s.journal_tail_block + 1) % s.journal_length_blocks, 200);
  fixture.expect_only(ProblemId::journal_lost);
  CHECK(fixture.report().unreadable);
}

TEST_CASE("check: journal_not_empty", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { fixture.put_any(t); }, true);
  fixture.change_superblock([](DiskSuperblock& s) { s.clean = 1; });
  fixture.expect_only(ProblemId::journal_not_empty);
}

TEST_CASE("check: journal_unreadable and data_unreadable are reported, not fatal", "[check]") {
  class FailingDevice final : public BlockDevice {
   public:
    FailingDevice(BlockDevice& below, BlockRange bad) : below_(below), bad_(bad) {}
    void submit(DeviceRequest& request) override {
      const bool hit = request.op == DeviceOp::read && request.lba < bad_.end() &&
                       request.lba + request.length_blocks > bad_.start;
      if (hit) return request.complete(ErrorCode::device_read, 0);
      below_.submit(request);
    }
    uint64_t block_count() const override { return below_.block_count(); }
    std::string name() const override { return "failing"; }
    bool read_only() const override { return true; }

   private:
    BlockDevice& below_;
    const BlockRange bad_;
  };
  Fixture fixture;
  ManualClock clock;
  NullLogger logger;
  std::vector<std::string> found;
  CheckOptions options;
  options.verify_data = true;
  options.report = [&](const Problem& problem) { found.push_back(problem_name(problem.id)); };

  FailingDevice bad_data(fixture.device(), {fixture.keyed_blocks.start + 20, 2});
  auto report = check_filesystem(bad_data, options, clock, logger);
  REQUIRE(report.ok());
  CHECK(found == std::vector<std::string>{"data_unreadable", "data_unreadable"});
  CHECK(report->verified_blocks == report->data_blocks - 2);

  found.clear();
  const DiskSuperblock s = fixture.superblock();
  FailingDevice bad_journal(fixture.device(), {Lba(s.journal_start), s.journal_length_blocks});
  report = check_filesystem(bad_journal, options, clock, logger);
  REQUIRE(report.ok());
  CHECK(found == std::vector<std::string>{"journal_unreadable"});
}

TEST_CASE("check: open_failed when the journal contradicts the space maps", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { fixture.put_any(t); }, true);
  // The same record, but with an operation that cannot be applied.
  const DiskSuperblock s = fixture.superblock();
  const uint64_t lba = s.journal_start + s.journal_tail_block;
  auto block = fixture.read_block<std::array<std::byte, kBlockSize>>(lba);
  const auto old = at<DiskBatchHeader>(block, 0);
  std::vector<std::byte> body;
  append_range(body, JournalOp::free, {Lba(30000), 1});
  DiskRecordHeader record;
  record.length_bytes = static_cast<uint32_t>(sizeof record + body.size());
  record.op_count = 1;
  record.sequence = uint64_t{old.first_sequence};
  block.fill(std::byte{0});
  std::memcpy(block.data() + sizeof old, &record, sizeof record);
  std::memcpy(block.data() + sizeof old + sizeof record, body.data(), body.size());
  BatchInfo info{};
  std::memcpy(info.epoch, old.epoch, sizeof info.epoch);
  info.first = info.last = Sequence(old.first_sequence);
  info.flushed = Sequence(old.flushed_sequence);
  info.previous_checksum = old.previous_checksum;
  seal_batch(block, info, record.length_bytes, 1);
  fixture.write_block(lba, block);
  fixture.expect_only(ProblemId::open_failed);
  CHECK(fixture.report().unreadable);
}

// --- tree

TEST_CASE("check: node_damaged, and what it hides is not reported as lost", "[check]") {
  Fixture fixture;
  fixture.flip_byte(fixture.node_address(Fixture::inode_key(150), 0).lba[0].value);
  fixture.expect_only(ProblemId::node_damaged);
  CHECK(fixture.report().incomplete);
  CHECK(fixture.report().inodes > 100);
}

TEST_CASE("check: node_damaged with both copies bad, node_copy_damaged with one", "[check]") {
  const int copy = GENERATE(0, 1);
  Fixture fixture(2);
  const NodeAddress address = fixture.node_address(Fixture::inode_key(150), 0);
  fixture.flip_byte(address.lba[copy].value);
  fixture.expect_only(ProblemId::node_copy_damaged);
  CHECK_FALSE(fixture.report().clean());
  CHECK_FALSE(fixture.report().incomplete);
  const std::string intact = std::to_string(address.lba[1 - copy].value) + " is intact";
  CHECK(fixture.texts().find(intact) != std::string::npos);
  fixture.flip_byte(address.lba[1 - copy].value);
  fixture.expect_only(ProblemId::node_damaged);
}

TEST_CASE("check: node_range", "[check]") {
  Fixture fixture;
  fixture.change_node(Key(100, 1, 0), 1, [&](std::span<std::byte> image) {
    children(image)[header(image).count - 1].pointer.lba[0] = 9;
  });
  fixture.expect_only(ProblemId::node_range);
}

TEST_CASE("check: node_shared", "[check]") {
  Fixture fixture;
  fixture.change_node(Key(100, 1, 0), 1, [](std::span<std::byte> image) {
    const uint32_t last = header(image).count - 1u;
    children(image)[last].pointer = children(image)[last - 1].pointer;
  });
  fixture.expect_only(ProblemId::node_shared);
}

TEST_CASE("check: node_bounds", "[check]") {
  Fixture fixture;
  fixture.change_node(Key(150, 1, 0), 0, [](std::span<std::byte> image) {
    DiskSlot& last = slots(image)[header(image).count - 1];
    last.object = 1u << 20;
  });
  fixture.expect_only(ProblemId::node_bounds);
}

// --- space

TEST_CASE("check: space_table_invalid", "[check]") {
  Fixture fixture;
  const DiskSuperblock s = fixture.superblock();
  fixture.flip_byte(s.space_table_start + uint64_t{s.space_table_slot} * s.space_table_blocks);
  fixture.expect_only(ProblemId::space_table_invalid);
}

TEST_CASE("check: bitmap_invalid by checksum and by bits beyond the end", "[check]") {
  Fixture fixture;
  fixture.change_group(1, [](std::span<std::byte> bitmap, DiskSpaceEntry&) {
    flip_bit(bitmap, Fixture::kBlocks - kGroupBlocks);
  });
  fixture.expect_only(ProblemId::bitmap_invalid);

  Fixture other;
  const DiskSuperblock s = other.superblock();
  const auto entry = read_space_table(other.device(), s).value()[1];
  other.flip_byte(s.bitmap_start + 2 + slot_of(entry));
  other.expect_only(ProblemId::bitmap_invalid);
}

TEST_CASE("check: group_free_count", "[check]") {
  Fixture fixture;
  fixture.change_group(0, [](std::span<std::byte>, DiskSpaceEntry& entry) {
    entry.free_and_slot = entry.free_and_slot - 1;
  });
  fixture.change_superblock([](DiskSuperblock& s) { s.free_blocks = s.free_blocks - 1; });
  fixture.expect_only(ProblemId::group_free_count);
}

TEST_CASE("check: free_blocks", "[check]") {
  Fixture fixture;
  fixture.change_superblock([](DiskSuperblock& s) { s.free_blocks = s.free_blocks - 1; });
  fixture.expect_only(ProblemId::free_blocks);
}

TEST_CASE("check: unwritten_count", "[check]") {
  Fixture fixture;
  fixture.change_superblock([](DiskSuperblock& s) { s.unwritten_blocks = s.unwritten_blocks + 1; });
  fixture.expect_only(ProblemId::unwritten_count);
}

TEST_CASE("check: block_not_allocated", "[check]") {
  Fixture fixture;
  const uint64_t node = fixture.node_address(Fixture::inode_key(150), 0).lba[0].value;
  const int which = GENERATE(0, 1, 2);
  const uint64_t lba = which == 0 ? fixture.inline_blocks.start.value : which == 1 ? node : 5;
  REQUIRE(lba < kGroupBlocks);
  fixture.change_group(0, [&](std::span<std::byte> bitmap, DiskSpaceEntry& entry) {
    flip_bit(bitmap, lba);
    entry.free_and_slot = entry.free_and_slot + 1;
  });
  fixture.change_superblock([](DiskSuperblock& s) { s.free_blocks = s.free_blocks + 1; });
  fixture.expect_only(ProblemId::block_not_allocated);
}

TEST_CASE("check: block_leaked, also when only the journal knows", "[check]") {
  const bool crash = GENERATE(false, true);
  Fixture fixture;
  fixture.with_store(
      [](Store& store) {
        auto reservation = store.reserve_space(5);
        Transaction transaction;
        transaction.allocate(store.allocate(*reservation, 5, Lba(0)).value());
        REQUIRE(store.commit(transaction, false).ok());
      },
      crash);
  fixture.expect_only(ProblemId::block_leaked);
  CHECK(fixture.texts().find("+5") != std::string::npos);
}

TEST_CASE("check: block_shared by two extents and by a node", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.erase(Key::global(ItemKind::reference, fixture.shared_blocks.start.value));
  });
  fixture.expect_only(ProblemId::block_shared);

  Fixture other;
  const uint64_t node = other.node_address(Fixture::inode_key(150), 0).lba[0].value;
  other.change_node(Fixture::extent_key(Fixture::kFile, 200), 0, [&](std::span<std::byte> image) {
    for (uint32_t i = 0; i < header(image).count; ++i) {
      if (from_disk(slots(image)[i]) == Fixture::extent_key(Fixture::kFile, 200)) {
        at<DiskExtent>(image, slots(image)[i].value_offset).lba = node;
      }
    }
  });
  const auto found = other.check();
  CHECK(found.count("block_shared") == 1);
}

TEST_CASE("check: reference_count", "[check]") {
  Fixture fixture;
  fixture.change<DiskReference>(Key::global(ItemKind::reference, fixture.shared_blocks.start.value),
                                [](DiskReference& reference) { reference.count = 3; });
  fixture.expect_only(ProblemId::reference_count);
}

TEST_CASE("check: reference_overlap", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    DiskReference reference;
    reference.length_blocks = 1;
    reference.count = 2;
    transaction.put_struct(Key::global(ItemKind::reference, fixture.shared_blocks.start.value + 1),
                           reference);
  });
  fixture.expect_only(ProblemId::reference_overlap);
}

TEST_CASE("check: reference_unwritten", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    DiskReference reference;
    reference.length_blocks = static_cast<uint32_t>(fixture.unwritten_blocks.length_blocks);
    reference.count = 2;
    transaction.put_struct(Key::global(ItemKind::reference, fixture.unwritten_blocks.start.value),
                           reference);
    DiskExtent extent;
    extent.lba = fixture.unwritten_blocks.start.value;
    extent.length_blocks = reference.length_blocks;
    extent.flags = kExtentUnwritten;
    transaction.put_struct(Fixture::extent_key(Fixture::kHardLink, 0), extent);
    transaction.put_struct(Fixture::inode_key(Fixture::kHardLink),
                           Fixture::inode(S_IFREG | 0644, 2, 0, reference.length_blocks));
  });
  fixture.expect_only(ProblemId::reference_unwritten);
}

// --- items

TEST_CASE("check: item_invalid", "[check]") {
  Fixture fixture;
  const Key key = fixture.xattr_key(150, "user.many");
  fixture.change_node(key, 0, [&](std::span<std::byte> image) {
    for (uint32_t i = 0; i < header(image).count; ++i) {
      if (from_disk(slots(image)[i]) == key) {
        slots(image)[i].kind = static_cast<uint8_t>(ItemKind::delta);
      }
    }
  });
  fixture.expect_only(ProblemId::item_invalid);
}

TEST_CASE("check: item_without_inode", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { fixture.put_xattr(t, 80, "user.x", {}); });
  fixture.expect_only(ProblemId::item_without_inode);
}

TEST_CASE("check: item_unexpected", "[check]") {
  Fixture fixture;
  const int round = GENERATE(0, 1, 2);
  fixture.commit([&](Transaction& transaction) {
    if (round == 0) {
      transaction.put(Key(Ino(Fixture::kFile), ItemKind::inline_data, 0),
                      std::vector<std::byte>(5));
    } else if (round == 1) {
      transaction.put(fixture.dirent_key(Fixture::kFile, "x"),
                      Fixture::dirent_value("x", Fixture::kDevice, DT_CHR));
    } else {
      DiskInode inode = Fixture::inode(S_IFCHR | 0600, 1, 0, 3);
      transaction.put_struct(Fixture::inode_key(Fixture::kDevice), inode);
      DiskExtent extent;
      extent.lba = fixture.unwritten_blocks.start.value;
      extent.length_blocks = 3;
      extent.flags = kExtentUnwritten;
      transaction.put_struct(Fixture::extent_key(Fixture::kDevice, 0), extent);
      extent.lba = fixture.unwritten_blocks.start.value + 3;
      extent.length_blocks = 4;
      transaction.put_struct(Fixture::extent_key(Fixture::kFile, 200), extent);
      inode = Fixture::inode(S_IFREG | 0644, 1, 109 * kBlockSize + 1, 107);
      transaction.put_struct(Fixture::inode_key(Fixture::kFile), inode);
    }
  });
  fixture.expect_only(ProblemId::item_unexpected);
}

// --- inodes

TEST_CASE("check: root_missing", "[check]") {
  Fixture fixture(Fixture::Empty{});
  fixture.commit([](Transaction& transaction) { transaction.erase(Fixture::inode_key(1)); });
  fixture.expect_only(ProblemId::root_missing);

  Fixture other(Fixture::Empty{});
  other.commit([](Transaction& transaction) {
    transaction.put_struct(Fixture::inode_key(1), Fixture::inode(S_IFREG | 0644, 0));
    DiskOrphan orphan{};
    orphan.intent = 1;
    transaction.put_struct(Key::global(ItemKind::orphan, 1), orphan);
  });
  other.expect_only(ProblemId::root_missing);
}

TEST_CASE("check: next_ino", "[check]") {
  Fixture fixture;
  fixture.change_superblock([](DiskSuperblock& s) { s.next_ino = 120; });
  fixture.expect_only(ProblemId::next_ino);
}

TEST_CASE("check: link_count of files and directories", "[check]") {
  const uint64_t ino =
      GENERATE(uint64_t{1}, uint64_t{Fixture::kDirectory}, uint64_t{Fixture::kHardLink});
  const int difference = GENERATE(-1, 1);
  Fixture fixture;
  fixture.change_inode(ino, [&](DiskInode& inode) {
    inode.link_count = static_cast<uint32_t>(static_cast<int>(inode.link_count) + difference);
  });
  fixture.expect_only(ProblemId::link_count);
}

TEST_CASE("check: inode_unreferenced", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { t.erase(fixture.dirent_key(1, "device")); });
  fixture.expect_only(ProblemId::inode_unreferenced);
}

TEST_CASE("check: block_count", "[check]") {
  Fixture fixture;
  fixture.change_inode(Fixture::kFile, [](DiskInode& inode) { inode.block_count = 109; });
  fixture.expect_only(ProblemId::block_count);
}

TEST_CASE("check: symlink_target with a missing chunk, a wrong length, a zero byte", "[check]") {
  Fixture fixture;
  const int round = GENERATE(0, 1, 2, 3);
  const Key first(Ino(Fixture::kSymlink), ItemKind::inline_data, 0);
  const Key second(Ino(Fixture::kSymlink), ItemKind::inline_data, 1000);
  fixture.commit([&](Transaction& transaction) {
    if (round == 0) transaction.erase(first);
    if (round == 1) transaction.erase(second);
    if (round == 2) transaction.put(second, std::vector<std::byte>(501, std::byte{'x'}));
    if (round == 3) transaction.put(second, std::vector<std::byte>(500));
  });
  fixture.expect_only(ProblemId::symlink_target);
}

// --- directories

TEST_CASE("check: dirent_hash", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.erase(fixture.dirent_key(1, "device"));
    transaction.put(fixture.dirent_key(1, "devic"),
                    Fixture::dirent_value("device", Fixture::kDevice, DT_CHR));
  });
  fixture.expect_only(ProblemId::dirent_hash);
}

TEST_CASE("check: dirent_duplicate", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.put(fixture.dirent_key(1, "hardlink", 1),
                    Fixture::dirent_value("hardlink", Fixture::kHardLink, DT_REG));
    transaction.put_struct(Fixture::inode_key(Fixture::kHardLink),
                           Fixture::inode(S_IFREG | 0644, 3));
  });
  fixture.expect_only(ProblemId::dirent_duplicate);
}

TEST_CASE("check: dirent_dangling", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.put(fixture.dirent_key(1, "ghost"), Fixture::dirent_value("ghost", 60, DT_REG));
  });
  fixture.expect_only(ProblemId::dirent_dangling);
  CHECK(fixture.texts().find("ghost") != std::string::npos);
}

TEST_CASE("check: dirent_type", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.put(fixture.dirent_key(1, "device"),
                    Fixture::dirent_value("device", Fixture::kDevice, DT_BLK));
  });
  fixture.expect_only(ProblemId::dirent_type);
  CHECK(fixture.texts().find("(/device)") != std::string::npos);
}

namespace {
// A directory with its entry in `parent`.
void put_directory(Fixture& fixture, Transaction& transaction, uint64_t parent,
                   const std::string& name, uint64_t ino, uint32_t links) {
  DiskInode inode = Fixture::inode(S_IFDIR | 0755, links);
  inode.parent = parent;
  transaction.put_struct(Fixture::inode_key(ino), inode);
  transaction.put(fixture.dirent_key(parent, name), Fixture::dirent_value(name, ino, DT_DIR));
}
}  // namespace

TEST_CASE("check: directory_linked_twice", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    transaction.put(fixture.dirent_key(1, "again"),
                    Fixture::dirent_value("again", Fixture::kDirectory, DT_DIR));
  });
  fixture.change_inode(1, [](DiskInode& inode) { inode.link_count = 4; });
  fixture.expect_only(ProblemId::directory_linked_twice);
}

TEST_CASE("check: directory_parent", "[check]") {
  Fixture fixture;
  fixture.change_inode(Fixture::kDirectory,
                       [](DiskInode& inode) { inode.parent = Fixture::kDirectory; });
  fixture.expect_only(ProblemId::directory_parent);
}

TEST_CASE("check: directory_unreachable", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& transaction) {
    put_directory(fixture, transaction, 51, "a", 50, 3);
    put_directory(fixture, transaction, 50, "b", 51, 3);
  });
  fixture.expect_only(ProblemId::directory_unreachable);
}

// --- orphans

TEST_CASE("check: orphan_missing", "[check]") {
  Fixture fixture;
  fixture.commit(
      [](Transaction& t) { t.put_struct(Fixture::inode_key(70), Fixture::inode(S_IFREG, 0)); });
  fixture.expect_only(ProblemId::orphan_missing);
}

TEST_CASE("check: orphan_linked", "[check]") {
  Fixture fixture;
  fixture.commit([](Transaction& transaction) {
    DiskOrphan orphan{};
    orphan.intent = 1;
    transaction.put_struct(Key::global(ItemKind::orphan, Fixture::kDevice), orphan);
  });
  fixture.expect_only(ProblemId::orphan_linked);
}

TEST_CASE("check: orphan_without_inode", "[check]") {
  Fixture fixture;
  fixture.commit([](Transaction& transaction) {
    DiskOrphan orphan{};
    orphan.intent = 1;
    transaction.put_struct(Key::global(ItemKind::orphan, 77), orphan);
  });
  fixture.expect_only(ProblemId::orphan_without_inode);
}

TEST_CASE("check: orphan_truncate", "[check]") {
  Fixture fixture;
  fixture.change<DiskOrphan>(Key::global(ItemKind::orphan, Fixture::kTruncated),
                             [](DiskOrphan& orphan) { orphan.start_block = 1; });
  fixture.expect_only(ProblemId::orphan_truncate);
}

// --- extents and tuples

TEST_CASE("check: extent_overlap", "[check]") {
  Fixture fixture;
  fixture.with_store([&](Store& store) {
    const auto value = store.get(Fixture::extent_key(Fixture::kFile, 0)).value().value();
    Transaction transaction;
    transaction.erase(Fixture::extent_key(Fixture::kFile, 0));
    transaction.put(Fixture::extent_key(Fixture::kFile, 8), value);
    REQUIRE(store.commit(transaction, false).ok());
  });
  fixture.expect_only(ProblemId::extent_overlap);
}

TEST_CASE("check: extent_range", "[check]") {
  Fixture fixture;
  const uint64_t lba = GENERATE(uint64_t{5}, Fixture::kBlocks - 2, Fixture::kBlocks + 7);
  fixture.commit([&](Transaction& transaction) {
    DiskExtent extent;
    extent.lba = lba;
    extent.length_blocks = 1;
    extent.flags = kExtentUnwritten;
    transaction.put_struct(Fixture::extent_key(Fixture::kHardLink, 0), extent);
    transaction.put_struct(Fixture::inode_key(Fixture::kHardLink),
                           Fixture::inode(S_IFREG | 0644, 2, 0, 1));
  });
  fixture.expect_only(ProblemId::extent_range);
}

TEST_CASE("check: extent_beyond_end", "[check]") {
  Fixture fixture;
  fixture.change_inode(Fixture::kFile,
                       [](DiskInode& inode) { inode.size_bytes = 109 * kBlockSize; });
  fixture.expect_only(ProblemId::extent_beyond_end);
}

TEST_CASE("check: tuples_missing and tuples_unreferenced", "[check]") {
  Fixture fixture;
  fixture.with_store([&](Store& store) {
    const Key key = Key::global(ItemKind::tuples, fixture.keyed_blocks.start.value);
    auto value = store.get(key).value().value();
    value.resize(63 * sizeof(Tuple));
    Transaction transaction;
    transaction.put(key, value);
    REQUIRE(store.commit(transaction, false).ok());
  });
  fixture.expect_only(ProblemId::tuples_missing, true);

  Fixture other;
  other.with_store([&](Store& store) {
    const Key from = Key::global(ItemKind::tuples, other.keyed_blocks.start.value);
    auto value = store.get(from).value().value();
    const uint64_t lba = other.inline_blocks.start.value;
    std::vector<Tuple> tuples(1);
    tuples[0].reference_tag = static_cast<uint32_t>(lba);
    Transaction transaction;
    transaction.put(Key::global(ItemKind::tuples, lba), std::as_bytes(std::span(tuples)));
    REQUIRE(store.commit(transaction, false).ok());
  });
  other.expect_only(ProblemId::tuples_unreferenced);
}

TEST_CASE("check: tuples_overlap", "[check]") {
  Fixture fixture;
  fixture.with_store([&](Store& store) {
    const uint64_t lba = fixture.keyed_blocks.start.value;
    auto value = store.get(Key::global(ItemKind::tuples, lba)).value().value();
    Transaction transaction;
    transaction.put(Key::global(ItemKind::tuples, lba + 1),
                    std::span(value).subspan(sizeof(Tuple), 2 * sizeof(Tuple)));
    REQUIRE(store.commit(transaction, false).ok());
  });
  fixture.expect_only(ProblemId::tuples_overlap, true);
}

namespace {
void change_tuple(Fixture& fixture, bool inline_tuple, const std::function<void(Tuple&)>& apply) {
  fixture.with_store([&](Store& store) {
    const Key key = inline_tuple ? Fixture::extent_key(Fixture::kFile, 0)
                                 : Key::global(ItemKind::tuples, fixture.keyed_blocks.start.value);
    auto value = store.get(key).value().value();
    apply(at<Tuple>(value, (inline_tuple ? sizeof(DiskExtent) : 0) + sizeof(Tuple)));
    Transaction transaction;
    transaction.put(key, value);
    REQUIRE(store.commit(transaction, false).ok());
  });
}
}  // namespace

TEST_CASE("check: tuple_reference_tag", "[check]") {
  const bool inline_tuple = GENERATE(false, true);
  Fixture fixture;
  change_tuple(fixture, inline_tuple,
               [](Tuple& tuple) { tuple.reference_tag = tuple.reference_tag + 1; });
  fixture.expect_only(ProblemId::tuple_reference_tag);
  CHECK(fixture.check(true).count("data_reference_tag") == 1);
}

TEST_CASE("check: tuple_app_tag", "[check]") {
  const bool inline_tuple = GENERATE(false, true);
  Fixture fixture;
  change_tuple(fixture, inline_tuple, [](Tuple& tuple) { tuple.app_tag = 0xFFFF; });
  fixture.expect_only(ProblemId::tuple_app_tag);
  CHECK(fixture.check(true).count("data_app_tag") == 1);
}

TEST_CASE("check: damage_unmapped, unless inode, file block and block belong together", "[check]") {
  Fixture fixture;
  const uint64_t lba = fixture.keyed_blocks.start.value + 70;
  const uint64_t file_block = 327680 / kBlockSize;
  const auto put = [&](uint64_t ino, uint64_t block, uint64_t at) {
    fixture.commit([&](Transaction& transaction) {
      DiskDamage damage{};
      damage.ino = ino;
      damage.file_block = block;
      damage.kind = static_cast<uint8_t>(DamageKind::guard);
      transaction.put_struct(Key::global(ItemKind::damage, at), damage);
    });
  };
  put(Fixture::kFile, file_block, lba);
  CHECK(fixture.check().empty());
  CHECK(fixture.report().damaged_blocks == 1);
  CHECK(fixture.report().clean());
  put(Fixture::kFile, file_block + 1, lba);
  fixture.expect_only(ProblemId::damage_unmapped);
  put(Fixture::kSharedA, file_block, lba);
  fixture.expect_only(ProblemId::damage_unmapped);
  put(Fixture::kFile, file_block, lba);
  CHECK(fixture.check().empty());
  put(Fixture::kFile, file_block, fixture.superblock().block_count - 3);  // of nobody
  fixture.expect_only(ProblemId::damage_unmapped);
}

// --- data

TEST_CASE("check: data_guard, with inode, path, offset and block, only when data is read",
          "[check]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  Fixture fixture(1, interval);
  const uint64_t lba = fixture.keyed_blocks.start.value + 70;
  fixture.flip_byte(lba, 4095);
  CHECK(fixture.check().empty());
  fixture.expect_only(ProblemId::data_guard, true);
  CHECK(fixture.texts().find("inode 3 (/file), offset 327680, block " + std::to_string(lba)) !=
        std::string::npos);
  CHECK(fixture.report().verified_blocks == fixture.report().data_blocks);
}
