// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/device_pass.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "format/bytes.h"
#include "format/items.h"

namespace stablefs {
namespace {

constexpr uint64_t kSearchBlocks = 256;

std::string slot_text(const SuperblockSlot& slot) {
  return fmt::format("superblock slot {} (block {})", slot.slot, slot.lba.value);
}

std::string node_text(const RawNode& node) {
  const NodeAddress& address = node.address;
  std::string blocks = fmt::format("block {}", address.lba[0].value);
  if (address.lba[1].value != 0) blocks += fmt::format(" and {}", address.lba[1].value);
  return fmt::format("node at {}, level {}, from key {}", blocks, node.level,
                     key_to_text(node.low));
}

}  // namespace

// Generation g is in slots g % 2 and 2 + g % 2, the one before in the other two. A crash between
// two writes leaves an older generation in one of them, which is as it should be.
void DevicePass::check_slots(const std::vector<SuperblockSlot>& slots) {
  const uint64_t newest = superblock_.generation;
  for (const SuperblockSlot& slot : slots) {
    const bool current = slot.slot % 2 == newest % 2;
    if (!slot.status.ok()) {
      const bool never_written = !current && newest == 1 && all_zero_bytes(slot.superblock);
      if (!never_written) {
        reporter_.add(ProblemId::superblock_slot_invalid, slot_text(slot),
                      slot.status.error().message());
      }
      continue;
    }
    const uint64_t generation = slot.superblock.generation;
    if (generation % 2 != slot.slot % 2) {
      reporter_.add(ProblemId::superblock_slot_misplaced, slot_text(slot),
                    fmt::format("generation {}", generation));
    } else if (generation == newest &&
               std::memcmp(&slot.superblock, &superblock_, sizeof superblock_) != 0) {
      reporter_.add(ProblemId::superblock_slots_differ, slot_text(slot),
                    fmt::format("generation {}", generation));
    }
  }
}

void DevicePass::check_journal() {
  auto end = walk_journal(device_, superblock_, nullptr);
  if (!end.ok()) {
    reporter_.add(ProblemId::journal_unreadable, "journal", end.error().message());
    return;
  }
  reporter_.counts().journal_batches = end->batches;
  if (superblock_.clean != 0) {
    if (end->records != 0) {
      reporter_.add(ProblemId::journal_not_empty, "journal",
                    fmt::format("{} transactions", end->records));
    }
    return;
  }
  Sequence durable = end->flushed;
  if (!find_later_batch(*end, durable) && durable <= end->last) return;
  reporter_.add(ProblemId::journal_lost, fmt::format("journal block {}", end->ring_block),
                fmt::format("valid up to sequence {}, but {} was durable; {}", end->last.value,
                            durable.value, end->reason));
}

// A valid batch of this epoch behind the end of the chain that knows more to be durable.
bool DevicePass::find_later_batch(const JournalEnd& end, Sequence& durable) {
  const uint64_t ring = superblock_.journal_length_blocks;
  // Batches do not overlap, so honest ones fit the ring; forged headers must not cost more.
  uint64_t budget_blocks = 2 * ring;
  for (uint64_t done = 0; done < ring; done += kSearchBlocks) {
    const uint64_t count = std::min(kSearchBlocks, ring - done);
    AlignedBuffer blocks(count * kBlockSize);
    if (!read_ring(device_, superblock_, end.ring_block + done, blocks.span()).ok()) continue;
    for (uint64_t i = 0; i < count; ++i) {
      const auto block = blocks.span().subspan(i * kBlockSize, kBlockSize);
      const auto header = parse_batch_header(block, superblock_.epoch, ring);
      if (!header.ok() || header->flushed_sequence <= end.last.value) continue;
      if (header->length_blocks > budget_blocks) return false;
      budget_blocks -= header->length_blocks;
      AlignedBuffer batch(uint64_t{header->length_blocks} * kBlockSize);
      const Status read = read_ring(device_, superblock_, end.ring_block + done + i, batch.span());
      if (!read.ok() || !validate_batch(batch.span()).ok()) continue;
      durable = Sequence(header->flushed_sequence);
      return true;
    }
  }
  return false;
}

void DevicePass::check_tree() {
  walk_tree(device_, superblock_, nodes_, [this](const RawNode& node) { check_node(node); });
}

void DevicePass::check_node(const RawNode& node) {
  const uint64_t visited = ++reporter_.counts().nodes;
  if (visited % 1024 == 0) reporter_.progress("tree", visited, 0);
  if (node.out_of_range || node.shared) {
    reporter_.add(node.out_of_range ? ProblemId::node_range : ProblemId::node_shared,
                  node_text(node));
  } else if (node.image.empty()) {
    const Status& status = node.copies[0].ok() ? node.copies[1] : node.copies[0];
    reporter_.add(ProblemId::node_damaged, node_text(node), status.error().message());
  } else {
    for (int copy = 0; copy < 2; ++copy) {
      if (node.copies[copy].ok()) continue;
      reporter_.add(
          ProblemId::node_copy_damaged, node_text(node),
          fmt::format("block {}: {}; the copy in block {} is intact", node.address.lba[copy].value,
                      node.copies[copy].error().message(), node.address.lba[1 - copy].value));
    }
    check_keys(node);
    return;
  }
  tree_sound_ = false;
  damaged_.push_back({node.low, node.high});
}

// validate_node has seen to the order within the node.
void DevicePass::check_keys(const RawNode& node) {
  DiskNodeHeader header;
  std::memcpy(&header, node.image.data(), sizeof header);
  if (header.count == 0) return;
  const std::byte* entries = node.image.data() + sizeof header;
  const uint32_t last = header.count - 1u;
  const Key first_key = node.level == 0
                            ? from_disk(reinterpret_cast<const DiskSlot*>(entries)[0])
                            : from_disk(reinterpret_cast<const DiskChild*>(entries)->key);
  const Key last_key = node.level == 0
                           ? from_disk(reinterpret_cast<const DiskSlot*>(entries)[last])
                           : from_disk(reinterpret_cast<const DiskChild*>(entries)[last].key);
  if (first_key >= node.low && (!node.high || last_key < *node.high)) return;
  tree_sound_ = false;
  damaged_.push_back({node.low, node.high});
  reporter_.add(ProblemId::node_bounds, node_text(node),
                fmt::format("it has {} to {}", key_to_text(first_key), key_to_text(last_key)));
}

void DevicePass::check_space() {
  const auto table = read_space_table(device_, superblock_);
  if (!table.ok()) {
    reporter_.add(ProblemId::space_table_invalid,
                  fmt::format("space table slot {}", superblock_.space_table_slot),
                  table.error().message());
    return;
  }
  uint64_t free_blocks = 0;
  for (uint32_t group = 0; group < superblock_.group_count; ++group) {
    check_bitmap(group, (*table)[group]);
    free_blocks += free_of((*table)[group]);
  }
  if (free_blocks != superblock_.free_blocks) {
    reporter_.add(ProblemId::free_blocks, "superblock",
                  fmt::format("it says {}, the groups have {}", uint64_t{superblock_.free_blocks},
                              free_blocks));
  }
}

void DevicePass::check_bitmap(uint32_t group, const DiskSpaceEntry& entry) {
  const std::string where = fmt::format("group {}", group);
  AlignedBuffer bitmap(kBlockSize);
  const Status status = read_bitmap(device_, superblock_, group, entry, bitmap.span());
  if (!status.ok()) {
    reporter_.add(ProblemId::bitmap_invalid, where, status.error().message());
    return;
  }
  const uint64_t blocks = blocks_of_group(superblock_, group);
  uint64_t used = 0;
  uint64_t beyond = 0;
  for (uint64_t i = 0; i < kGroupBlocks; i += 64) {
    const uint64_t word = reinterpret_cast<const le64*>(bitmap.data())[i / 64];
    const uint64_t inside = i >= blocks ? 0 : blocks - i >= 64 ? ~0ull : (1ull << (blocks - i)) - 1;
    used += static_cast<uint64_t>(std::popcount(word & inside));
    beyond += static_cast<uint64_t>(std::popcount(word & ~inside));
  }
  if (beyond != 0) {
    reporter_.add(ProblemId::bitmap_invalid, where, "bits beyond the end of the device are set");
  }
  if (free_of(entry) != blocks - used) {
    reporter_.add(
        ProblemId::group_free_count, where,
        fmt::format("the table says {}, the bitmap has {}", free_of(entry), blocks - used));
  }
}

}  // namespace stablefs
