// SPDX-License-Identifier: GPL-2.0-or-later
// Superblock: the one validation of every field, and the layout mkfs chooses.
#include "format/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "format/bytes.h"
#include "format/node.h"

namespace stablefs {
namespace {

constexpr uint64_t kJournalStart = 8;                  // aligned; blocks 3 to 7 stay unused
constexpr uint64_t kDefaultJournalBlocksMax = 262144;  // 1 GiB
constexpr uint64_t kMaxCounter = 1ull << 63;           // no generation or sequence gets there

uint32_t checksum_of(const DiskSuperblock& superblock) {
  return crc32c_with_hole(0, std::as_bytes(std::span<const DiskSuperblock, 1>(&superblock, 1)),
                          offsetof(DiskSuperblock, checksum));
}

uint32_t groups_for(uint64_t block_count) {
  return static_cast<uint32_t>((block_count + kGroupBlocks - 1) / kGroupBlocks);
}
uint32_t space_table_blocks_for(uint32_t group_count) {
  return static_cast<uint32_t>(blocks_for_bytes(uint64_t{group_count} * sizeof(DiskSpaceEntry)));
}

Error bad(const char* what) {
  return Error(ErrorCode::superblock_fields, what);
}

Status validate_parameters(const DiskSuperblock& s) {
  if (s.block_size != kBlockSize) return bad("block size");
  if (s.interval != 4096 && s.interval != 512) return bad("protection interval");
  if ((s.interval == 512) != ((s.incompatible_features & kFeatureInterval512) != 0)) {
    return bad("protection interval disagrees with the feature word");
  }
  if (s.guard_format != static_cast<uint8_t>(GuardFormat::t10_crc16)) return bad("guard format");
  if (s.copies != 1 && s.copies != 2) return bad("copies");
  if ((s.copies == 2) != ((s.incompatible_features & kFeatureCopies2) != 0)) {
    return bad("copies disagree with the feature word");
  }
  if (s.clean > 1) return bad("clean flag");
  if (s.space_table_slot > 1) return bad("space table slot");
  const auto* label_end = static_cast<const char*>(std::memchr(s.label, 0, sizeof s.label));
  if (label_end == nullptr) return bad("label is not terminated");
  if (!all_zero(std::as_bytes(std::span(label_end, s.label + sizeof s.label)))) {
    return bad("label is not padded with zeros");
  }
  if (s.reserved0 != 0 || !all_zero(std::as_bytes(std::span(s.reserved)))) {
    return bad("reserved bytes are not zero");
  }
  return {};
}

Status validate_regions(const DiskSuperblock& s, uint64_t device_blocks) {
  const uint64_t blocks = s.block_count;
  if (blocks < kMinimumDeviceBlocks || blocks > kMaximumDeviceBlocks) return bad("block count");
  if (blocks > device_blocks) return bad("block count is larger than the device");
  if (s.dirty_node_limit < kMinimumDirtyNodeLimit || s.dirty_node_limit > kMaximumDirtyNodeLimit ||
      uint64_t{s.dirty_node_limit} * 2 * s.copies > blocks / 4) {
    return bad("dirty node limit");
  }
  if (s.group_count != groups_for(blocks)) return bad("group count");
  if (s.space_table_blocks != space_table_blocks_for(s.group_count)) {
    return bad("space table length");
  }
  if (s.journal_length_blocks < kMinimumJournalBlocks || s.journal_length_blocks > blocks / 2) {
    return bad("journal length");
  }
  // Each start is compared with the device first, so that no sum below overflows.
  if (s.journal_start > blocks || s.bitmap_start > blocks || s.space_table_start > blocks) {
    return bad("a region starts beyond the end");
  }
  if (s.journal_start < 3) return bad("journal overlaps the superblock");
  if (s.bitmap_start < s.journal_start + s.journal_length_blocks) {
    return bad("bitmaps overlap the journal");
  }
  if (s.space_table_start < s.bitmap_start + 2 * uint64_t{s.group_count}) {
    return bad("space table overlaps the bitmaps");
  }
  if (s.space_table_start + 2 * uint64_t{s.space_table_blocks} > blocks - 2) {
    return bad("space table overlaps the last superblock slots");
  }
  return {};
}

Status validate_state(const DiskSuperblock& s) {
  const uint64_t first_free = s.space_table_start + 2 * uint64_t{s.space_table_blocks};
  const uint64_t end = s.block_count - 2;
  if (s.generation == 0 || s.generation >= kMaxCounter) return bad("generation");
  if (s.root.generation == 0 || s.root.generation > s.generation) return bad("root generation");
  if (s.root.lba[0] < first_free || s.root.lba[0] >= end) return bad("root address");
  if (s.copies == 1 && s.root.lba[1] != 0) return bad("second root address");
  if (s.copies == 2 &&
      (s.root.lba[1] < first_free || s.root.lba[1] >= end || s.root.lba[1] == s.root.lba[0])) {
    return bad("second root address");
  }
  if (s.root.reserved != 0) return bad("reserved bytes of the root address are not zero");
  if (s.root_level > kMaxTreeLevel) return bad("root level");
  if (s.sequence >= kMaxCounter || s.flushed_sequence >= kMaxCounter) return bad("sequence");
  if (s.journal_tail_block >= s.journal_length_blocks) return bad("journal tail");
  if (s.next_ino <= kRootIno.value || s.next_ino >= kMaxCounter) return bad("next inode number");
  if (s.free_blocks > end - first_free) return bad("free block count");
  if (s.unwritten_blocks > end - first_free) return bad("unwritten block count");
  return {};
}

}  // namespace

std::string escape_text(std::string_view raw) {
  std::string text;
  text.reserve(raw.size());
  for (char c : raw) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 32 && byte < 127 && c != '\\') {
      text += c;
    } else {
      text += fmt::format("\\x{:02x}", byte);
    }
  }
  return text;
}

Status validate_superblock(const DiskSuperblock& superblock, uint64_t device_blocks) {
  if (superblock.magic != kSuperblockMagic) return ErrorCode::superblock_magic;
  if (superblock.checksum != checksum_of(superblock)) return ErrorCode::superblock_checksum;
  if (superblock.version != kFormatVersion) {
    return Error(ErrorCode::superblock_version,
                 fmt::format("version {}", uint32_t{superblock.version}));
  }
  if (uint64_t unknown = superblock.incompatible_features & ~kKnownIncompatible; unknown != 0) {
    return Error(ErrorCode::superblock_features, fmt::format("{:#x}", unknown));
  }
  FS_TRY(validate_parameters(superblock));
  FS_TRY(validate_regions(superblock, device_blocks));
  return validate_state(superblock);
}

void seal_superblock(DiskSuperblock& superblock) {
  superblock.checksum = checksum_of(superblock);
}

Result<Layout> make_layout(uint64_t block_count, uint64_t journal_blocks) {
  if (block_count < kMinimumDeviceBlocks) return ErrorCode::device_too_small;
  if (block_count > kMaximumDeviceBlocks) {
    return Error(ErrorCode::invalid_argument, "the device is too large");
  }
  const uint64_t journal_max = block_count / 8;
  if (journal_blocks == 0) {
    journal_blocks = std::clamp(block_count / 64, kMinimumJournalBlocks, kDefaultJournalBlocksMax);
    journal_blocks = std::min(journal_blocks, journal_max);
  }
  if (journal_blocks < kMinimumJournalBlocks || journal_blocks > journal_max) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the journal must have {} to {} blocks of 4 KiB",
                             kMinimumJournalBlocks, journal_max));
  }
  Layout layout{};
  layout.block_count = block_count;
  layout.group_count = groups_for(block_count);
  layout.space_table_blocks = space_table_blocks_for(layout.group_count);
  layout.journal_start = kJournalStart;
  layout.journal_length_blocks = journal_blocks;
  layout.bitmap_start = layout.journal_start + layout.journal_length_blocks;
  layout.space_table_start = layout.bitmap_start + 2 * uint64_t{layout.group_count};
  layout.first_free = layout.space_table_start + 2 * uint64_t{layout.space_table_blocks};
  layout.dirty_node_limit =
      static_cast<uint32_t>(std::clamp<uint64_t>(block_count / 256, kMinimumDirtyNodeLimit, 16384));
  return layout;
}

std::array<BlockRange, 2> fixed_regions(const DiskSuperblock& superblock) {
  const uint64_t first_free =
      superblock.space_table_start + 2 * uint64_t{superblock.space_table_blocks};
  return {BlockRange{Lba(0), first_free}, BlockRange{Lba(superblock.block_count - 2), 2}};
}

std::string uuid_to_text(const uint8_t uuid[16]) {
  std::string text;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string superblock_to_text(const DiskSuperblock& s) {
  auto hex = [](std::span<const uint8_t> bytes) {
    std::string text;
    for (uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
    return text;
  };
  std::string text;
  auto line = [&text](const char* name, const auto& value) {
    text += fmt::format("  {:<24} {}\n", name, value);
  };
  line("version", uint32_t{s.version});
  line("checksum", fmt::format("{:08x}", uint32_t{s.checksum}));
  line("features",
       fmt::format("incompatible {:#x} read-only-compatible {:#x} compatible {:#x}",
                   uint64_t{s.incompatible_features}, uint64_t{s.read_only_compatible_features},
                   uint64_t{s.compatible_features}));
  line("uuid", uuid_to_text(s.uuid));
  line("label", "\"" + escape_text({s.label, strnlen(s.label, sizeof s.label)}) + "\"");
  line("hash_seed", hex(s.hash_seed));
  line("block_count", uint64_t{s.block_count});
  line("block_size", uint32_t{s.block_size});
  line("interval", uint32_t{s.interval});
  line("guard_format", s.guard_format);
  line("copies", s.copies);
  line("clean", s.clean);
  line("dirty_node_limit", uint32_t{s.dirty_node_limit});
  line("journal", fmt::format("start {} length {}", uint64_t{s.journal_start},
                              uint64_t{s.journal_length_blocks}));
  line("bitmaps",
       fmt::format("start {} groups {}", uint64_t{s.bitmap_start}, uint32_t{s.group_count}));
  line("space_table", fmt::format("start {} length {} slot {} checksum {:08x}",
                                  uint64_t{s.space_table_start}, uint32_t{s.space_table_blocks},
                                  s.space_table_slot, uint32_t{s.space_table_checksum}));
  line("created_seconds", static_cast<int64_t>(uint64_t{s.created_seconds}));
  line("generation", uint64_t{s.generation});
  line("written_seconds", static_cast<int64_t>(uint64_t{s.written_seconds}));
  line("root",
       fmt::format("lba {} {} generation {} checksum {:08x} level {}", uint64_t{s.root.lba[0]},
                   uint64_t{s.root.lba[1]}, uint64_t{s.root.generation}, uint32_t{s.root.checksum},
                   uint32_t{s.root_level}));
  line("sequence", uint64_t{s.sequence});
  line("flushed_sequence", uint64_t{s.flushed_sequence});
  line("journal_tail", fmt::format("block {} chain {:08x} epoch {}", uint64_t{s.journal_tail_block},
                                   uint32_t{s.journal_chain}, hex(s.epoch)));
  line("next_ino", uint64_t{s.next_ino});
  line("free_blocks", uint64_t{s.free_blocks});
  line("mount_count", uint64_t{s.mount_count});
  line("unwritten_blocks", uint64_t{s.unwritten_blocks});
  return text;
}

}  // namespace stablefs
