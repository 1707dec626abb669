// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/raw.h"

#include <algorithm>
#include <cstring>

#include "integrity/tuple.h"

namespace stablefs {
namespace {

constexpr uint64_t kSpaceTableReadBlocks = 256;

void read_slot(BlockDevice& device, uint64_t slot, uint64_t block_count, SuperblockSlot& out) {
  AlignedBuffer buffer(kBlockSize);
  out.slot = slot;
  out.lba = superblock_lba(slot, block_count);
  std::memset(&out.superblock, 0, sizeof out.superblock);
  out.status = device.read(out.lba, buffer.span());
  if (!out.status.ok()) return;
  std::memcpy(&out.superblock, buffer.data(), kBlockSize);
  out.status = validate_superblock(out.superblock, device.block_count());
}

// Depth-first over the tree with the nodes of the path in memory.
class TreeWalker {
 public:
  TreeWalker(BlockDevice& device, const DiskSuperblock& superblock, BlockSet& seen,
             const std::function<void(const RawNode&)>& visit)
      : device_(device), superblock_(superblock), seen_(seen), visit_(visit) {}

  void walk(RawNode node) {
    AlignedBuffer image(kBlockSize);
    claim(node);
    if (!node.shared && !node.out_of_range) read(node, image);
    visit_(node);
    if (node.image.empty() || node.level == 0) return;
    DiskNodeHeader header;
    std::memcpy(&header, node.image.data(), sizeof header);
    const auto* children =
        reinterpret_cast<const DiskChild*>(node.image.data() + sizeof(DiskNodeHeader));
    for (uint32_t i = 0; i < header.count; ++i) {
      RawNode child;
      child.address = from_disk(children[i].pointer);
      child.level = node.level - 1;
      child.low = from_disk(children[i].key);
      child.high = i + 1 < header.count ? std::optional(from_disk(children[i + 1].key)) : node.high;
      walk(child);
    }
  }

 private:
  void claim(RawNode& node) {
    const uint64_t first = fixed_regions(superblock_)[0].length_blocks;
    const uint64_t end = superblock_.block_count - 2;
    for (Lba lba : node.address.lba) {
      if (lba.value == 0 && lba == node.address.lba[1]) continue;
      if (lba.value < first || lba.value >= end) {
        node.out_of_range = true;
      } else if (!seen_.insert(lba)) {
        node.shared = true;
      }
    }
  }

  void read(RawNode& node, AlignedBuffer& image) {
    AlignedBuffer second(kBlockSize);
    for (int copy = 0; copy < 2; ++copy) {
      if (node.address.lba[copy].value == 0) continue;
      AlignedBuffer& target = node.image.empty() ? image : second;
      node.copies[copy] = device_.read(node.address.lba[copy], target.span());
      if (!node.copies[copy].ok()) continue;
      node.copies[copy] = validate_node(target.span(), node.address, node.level);
      if (node.copies[copy].ok() && node.image.empty()) node.image = image.span();
    }
  }

  BlockDevice& device_;
  const DiskSuperblock& superblock_;
  BlockSet& seen_;
  const std::function<void(const RawNode&)>& visit_;
};

}  // namespace

std::vector<SuperblockSlot> read_superblock_slots(BlockDevice& device) {
  std::vector<SuperblockSlot> slots(kSuperblockSlots);
  uint64_t block_count = device.block_count();
  if (block_count < kMinimumDeviceBlocks) {
    for (SuperblockSlot& slot : slots) slot.status = ErrorCode::device_too_small;
    return slots;
  }
  uint64_t generation = 0;
  for (uint64_t slot = 0; slot < 2; ++slot) {
    read_slot(device, slot, block_count, slots[slot]);
    if (slots[slot].status.ok() && slots[slot].superblock.generation > generation) {
      generation = slots[slot].superblock.generation;
    }
  }
  for (uint64_t slot = 0; slot < 2; ++slot) {
    if (slots[slot].status.ok() && slots[slot].superblock.generation == generation) {
      block_count = slots[slot].superblock.block_count;
    }
  }
  for (uint64_t slot = 2; slot < 4; ++slot) read_slot(device, slot, block_count, slots[slot]);
  return slots;
}

const SuperblockSlot* newest_slot(const std::vector<SuperblockSlot>& slots) {
  const SuperblockSlot* newest = nullptr;
  for (const SuperblockSlot& slot : slots) {
    if (!slot.status.ok()) continue;
    if (newest == nullptr || slot.superblock.generation > newest->superblock.generation) {
      newest = &slot;
    }
  }
  return newest;
}

Status read_ring(BlockDevice& device, const DiskSuperblock& superblock, uint64_t ring_block,
                 std::span<std::byte> out) {
  const uint64_t ring = superblock.journal_length_blocks;
  while (!out.empty()) {
    const uint64_t at = ring_block % ring;
    const uint64_t blocks = std::min(out.size() / kBlockSize, ring - at);
    FS_TRY(device.read(Lba(superblock.journal_start + at), out.first(blocks * kBlockSize)));
    out = out.subspan(blocks * kBlockSize);
    ring_block += blocks;
  }
  return {};
}

Result<JournalEnd> walk_journal(BlockDevice& device, const DiskSuperblock& superblock,
                                const BatchVisitor& visit) {
  const uint64_t ring = superblock.journal_length_blocks;
  JournalEnd end;
  end.ring_block = superblock.journal_tail_block;
  end.last = Sequence(superblock.sequence);
  end.flushed = Sequence(superblock.flushed_sequence);
  uint32_t chain = superblock.journal_chain;
  uint64_t walked_blocks = 0;
  auto stop = [&](std::string reason) {
    end.reason = std::move(reason);
    return end;
  };
  for (;;) {
    AlignedBuffer block(kBlockSize);
    FS_TRY(read_ring(device, superblock, end.ring_block, block.span()));
    auto header = parse_batch_header(block.span(), superblock.epoch, ring - walked_blocks);
    if (!header.ok()) return stop(header.error().message());
    if (header->previous_checksum != chain) return stop("not chained to the batch before");
    if (header->first_sequence != end.last.value + 1) return stop("sequence numbers do not follow");
    AlignedBuffer batch(uint64_t{header->length_blocks} * kBlockSize);
    FS_TRY(read_ring(device, superblock, end.ring_block, batch.span()));
    const Status status = validate_batch(batch.span());
    if (!status.ok()) return stop(status.error().message());
    if (visit) visit(end.ring_block, *header, batch.span());
    ++end.batches;
    end.records += header->record_count;
    end.last = Sequence(header->last_sequence);
    end.flushed = std::max(end.flushed, Sequence(header->flushed_sequence));
    chain = header->checksum;
    walked_blocks += header->length_blocks;
    end.ring_block = (end.ring_block + header->length_blocks) % ring;
    if (walked_blocks == ring) return stop("the whole ring is in use");
  }
}

void walk_tree(BlockDevice& device, const DiskSuperblock& superblock, BlockSet& seen,
               const std::function<void(const RawNode&)>& visit) {
  RawNode root;
  root.address = from_disk(superblock.root);
  root.level = superblock.root_level;
  root.low = Key::minimum();
  TreeWalker(device, superblock, seen, visit).walk(root);
}

Result<std::vector<DiskSpaceEntry>> read_space_table(BlockDevice& device,
                                                     const DiskSuperblock& superblock) {
  const uint64_t blocks = superblock.space_table_blocks;
  const uint64_t start = superblock.space_table_start + superblock.space_table_slot * blocks;
  std::vector<DiskSpaceEntry> table(blocks * kBlockSize / sizeof(DiskSpaceEntry));
  auto* out = reinterpret_cast<std::byte*>(table.data());
  AlignedBuffer buffer(kSpaceTableReadBlocks * kBlockSize);
  uint32_t checksum = 0;
  for (uint64_t done = 0; done < blocks;) {
    const uint64_t count = std::min(blocks - done, kSpaceTableReadBlocks);
    const auto part = buffer.span().first(count * kBlockSize);
    FS_TRY(device.read(Lba(start + done), part));
    checksum = crc32c(checksum, part);
    std::memcpy(out + done * kBlockSize, part.data(), part.size());
    done += count;
  }
  if (checksum != superblock.space_table_checksum) return ErrorCode::space_table_checksum;
  table.resize(superblock.group_count);
  return table;
}

Status read_bitmap(BlockDevice& device, const DiskSuperblock& superblock, uint32_t group,
                   const DiskSpaceEntry& entry, std::span<std::byte> out) {
  const Lba lba(superblock.bitmap_start + 2 * uint64_t{group} + slot_of(entry));
  FS_TRY(device.read(lba, out));
  if (crc32c(0, out) != entry.checksum) return ErrorCode::bitmap_checksum;
  return {};
}

uint64_t blocks_of_group(const DiskSuperblock& superblock, uint32_t group) {
  return std::min(kGroupBlocks, superblock.block_count - uint64_t{group} * kGroupBlocks);
}

}  // namespace stablefs
