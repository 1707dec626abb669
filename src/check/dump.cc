// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/dump.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "check/raw.h"
#include "format/bytes.h"
#include "format/items.h"
#include "store/store.h"

namespace stablefs {
namespace {

constexpr size_t kBatchItems = 1000;

Result<DiskSuperblock> newest_superblock(BlockDevice& device) {
  const auto slots = read_superblock_slots(device);
  const SuperblockSlot* newest = newest_slot(slots);
  if (newest == nullptr) return slots[0].status.error();
  return newest->superblock;
}

void dump_leaf(std::span<const std::byte> image, Interval interval, const std::string& indent,
               const DumpSink& sink) {
  DiskNodeHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  const auto* slots = reinterpret_cast<const DiskSlot*>(image.data() + sizeof header);
  for (uint32_t i = 0; i < header.count; ++i) {
    const auto value = image.subspan(slots[i].value_offset, slots[i].value_length);
    sink(indent + "  " + item_to_text(from_disk(slots[i]), value, interval) + "\n");
  }
}

// Free runs of a group: how many and the longest.
std::string runs_text(std::span<const std::byte> bitmap, uint64_t blocks) {
  uint64_t runs = 0;
  uint64_t longest = 0;
  uint64_t current = 0;
  for (uint64_t i = 0; i < blocks; ++i) {
    if ((std::to_integer<unsigned>(bitmap[i / 8]) >> (i % 8) & 1u) != 0) {
      current = 0;
      continue;
    }
    if (++current == 1) ++runs;
    longest = std::max(longest, current);
  }
  return fmt::format("free_runs {} longest {}", runs, longest);
}

// Items from `from` on that belong to blocks of the range.
Status dump_items(Store& store, Key from, BlockRange range, const DumpSink& sink) {
  const Key last(from.object, from.kind, range.end().value - 1);
  for (;;) {
    const auto items = FS_TRY(store.scan(from, last, kBatchItems));
    for (const Item& item : items) {
      sink("  " + item_to_text(item.key, item.value, store.interval()) + "\n");
    }
    if (items.size() < kBatchItems) return {};
    from = items.back().key;
    ++from.offset;
  }
}

// Tuples items that describe blocks of the range.
Status dump_tuples(Store& store, BlockRange range, const DumpSink& sink) {
  Key from = Key::global(ItemKind::tuples, range.start.value);
  const auto before = FS_TRY(store.floor(from, Key::global(ItemKind::tuples, 0)));
  if (before) {
    const uint64_t length =
        before->value.size() / sizeof(Tuple) / tuples_per_block(store.interval());
    if (before->key.offset + length > range.start.value) from = before->key;
  }
  return dump_items(store, from, range, sink);
}

// Who else has blocks of the range is not known: how many is.
Status dump_references(Store& store, BlockRange range, const DumpSink& sink) {
  Key from = Key::global(ItemKind::reference, range.start.value);
  const auto before = FS_TRY(store.floor(from, Key::global(ItemKind::reference, 0)));
  if (before && before->value.size() == sizeof(DiskReference)) {
    DiskReference reference;
    std::memcpy(&reference, before->value.data(), sizeof reference);
    if (before->key.offset + reference.length_blocks > range.start.value) from = before->key;
  }
  return dump_items(store, from, range, sink);
}

Status dump_item_of_inode(Store& store, const Item& item, const DumpSink& sink) {
  sink(item_to_text(item.key, item.value, store.interval()) + "\n");
  if (item.key.kind != static_cast<uint8_t>(ItemKind::extent)) return {};
  if (!validate_item(item.key, item.value, store.interval()).ok()) return {};
  DiskExtent extent;
  std::memcpy(&extent, item.value.data(), sizeof extent);
  const BlockRange range{Lba(extent.lba), extent.length_blocks};
  if ((extent.flags & kExtentUnwritten) != 0) return {};
  FS_TRY(dump_references(store, range, sink));
  if ((extent.flags & kExtentTuplesInline) != 0) return {};
  return dump_tuples(store, range, sink);
}

}  // namespace

Status dump_superblock(BlockDevice& device, const DumpSink& sink) {
  const auto slots = read_superblock_slots(device);
  for (const SuperblockSlot& slot : slots) {
    const std::string verdict = slot.status.ok()                  ? "valid"
                                : all_zero_bytes(slot.superblock) ? "empty"
                                                                  : slot.status.error().message();
    sink(fmt::format("superblock slot {} block {}: {}\n", slot.slot, slot.lba.value, verdict));
    // Of a damaged one too: that is when people look.
    if (slot.superblock.magic == kSuperblockMagic) sink(superblock_to_text(slot.superblock));
  }
  if (newest_slot(slots) == nullptr) return slots[0].status;
  return {};
}

Status dump_journal(BlockDevice& device, const DumpSink& sink) {
  const DiskSuperblock superblock = FS_TRY(newest_superblock(device));
  const Interval interval = interval_of(superblock);
  auto record = [&](Sequence sequence, uint32_t op_count, std::span<const std::byte> body) {
    sink(fmt::format("  transaction {} operations {}\n", sequence.value, op_count));
    return for_each_operation(body, op_count, [&](const JournalOperation& operation) {
      sink("    " + operation_to_text(operation, interval) + "\n");
      return Status();
    });
  };
  sink(fmt::format("journal behind sequence {} at block {}\n", uint64_t{superblock.sequence},
                   uint64_t{superblock.journal_tail_block}));
  const JournalEnd end = FS_TRY(walk_journal(
      device, superblock,
      [&](uint64_t ring_block, const DiskBatchHeader& header, std::span<const std::byte> batch) {
        sink(fmt::format("block {}: {}\n", ring_block, batch_to_text(header)));
        (void)for_each_record(batch, record);  // walk_journal has validated it
      }));
  sink(
      fmt::format("end at block {} sequence {}: {}\n", end.ring_block, end.last.value, end.reason));
  return {};
}

Status dump_tree(BlockDevice& device, const DumpSink& sink) {
  const DiskSuperblock superblock = FS_TRY(newest_superblock(device));
  BlockSet seen(superblock.block_count);
  walk_tree(device, superblock, seen, [&](const RawNode& node) {
    const std::string indent(2 * (superblock.root_level - node.level), ' ');
    const NodeAddress& address = node.address;
    std::string line =
        fmt::format("{}node level {} lba {} {} generation {} checksum {:08x} low {}", indent,
                    node.level, address.lba[0].value, address.lba[1].value,
                    address.generation.value, address.checksum, key_to_text(node.low));
    if (node.out_of_range) line += " OUT OF RANGE";
    if (node.shared) line += " SHARED";
    for (const Status& copy : node.copies) {
      if (!copy.ok()) line += " DAMAGED: " + copy.error().message();
    }
    if (!node.image.empty()) {
      const auto& header = *reinterpret_cast<const DiskNodeHeader*>(node.image.data());
      line += fmt::format(" count {}", uint16_t{header.count});
    }
    sink(line + "\n");
    if (!node.image.empty() && node.level == 0) {
      dump_leaf(node.image, interval_of(superblock), indent, sink);
    }
  });
  return {};
}

Status dump_space(BlockDevice& device, const DumpSink& sink) {
  const DiskSuperblock superblock = FS_TRY(newest_superblock(device));
  sink(fmt::format("blocks {} free {} groups {} space table slot {}\n",
                   uint64_t{superblock.block_count}, uint64_t{superblock.free_blocks},
                   uint32_t{superblock.group_count}, superblock.space_table_slot));
  const auto table = FS_TRY(read_space_table(device, superblock));
  AlignedBuffer bitmap(kBlockSize);
  for (uint32_t group = 0; group < superblock.group_count; ++group) {
    const DiskSpaceEntry& entry = table[group];
    const uint64_t blocks = blocks_of_group(superblock, group);
    const Status status = read_bitmap(device, superblock, group, entry, bitmap.span());
    sink(fmt::format(
        "group {} start {} blocks {} free {} slot {} checksum {:08x} {}\n", group,
        group * kGroupBlocks, blocks, free_of(entry), slot_of(entry), uint32_t{entry.checksum},
        status.ok() ? runs_text(bitmap.span(), blocks) : "DAMAGED: " + status.error().message()));
  }
  return {};
}

Status dump_inode(BlockDevice& device, Ino ino, Clock& clock, Logger& logger,
                  const DumpSink& sink) {
  if (ino.value == kGlobalObject) return Error(ErrorCode::invalid_argument, "inode number 0");
  StoreOptions options;
  options.clock = &clock;
  options.logger = &logger;
  options.read_only = true;
  options.background = false;
  const auto store = FS_TRY(Store::open(device, options));
  Key from(ino, ItemKind::inode, 0);
  const Key last(ino.value, UINT8_MAX, UINT64_MAX);
  bool found = false;
  for (;;) {
    const auto items = FS_TRY(store->scan(from, last, kBatchItems));
    for (const Item& item : items) FS_TRY(dump_item_of_inode(*store, item, sink));
    found = found || !items.empty();
    if (items.size() < kBatchItems) break;
    from = items.back().key;
    if (++from.offset == 0) ++from.kind;
  }
  const Key orphan = Key::global(ItemKind::orphan, ino.value);
  if (const auto value = FS_TRY(store->get(orphan))) {
    sink(item_to_text(orphan, *value, store->interval()) + "\n");
    found = true;
  }
  if (!found) return Error(ErrorCode::not_found, fmt::format("inode {}", ino.value));
  return {};
}

}  // namespace stablefs
