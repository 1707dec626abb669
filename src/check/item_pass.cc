// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/item_pass.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "check/block_run.h"
#include "format/dirent.h"
#include "format/items.h"

namespace stablefs {
namespace {

// The item was validated: it is long enough.
template <class T>
T load(const Item& item) {
  T object;
  std::memcpy(&object, item.value.data(), sizeof object);
  return object;
}

uint8_t dirent_type_of(uint32_t mode) {
  return static_cast<uint8_t>((mode & S_IFMT) >> 12);
}

}  // namespace

ItemPass::ItemPass(Store& store, const BlockSet& nodes, Reporter& reporter, Ledger& ledger)
    : store_(store),
      superblock_(store.superblock()),
      nodes_(nodes),
      reporter_(reporter),
      ledger_(ledger),
      data_start_(fixed_regions(superblock_)[0].length_blocks),
      data_end_(superblock_.block_count - 2),
      xattrs_(reporter, superblock_.hash_seed) {}

bool ItemPass::run(Scanner& scanner) {
  scanner_ = &scanner;
  const bool complete = scanner.for_each(Key::minimum(), Key::maximum(), reporter_,
                                         [this](const Item& item) { visit(item); });
  finish_object();
  // What maps the blocks may be among the items that could not be read.
  if (complete && !scanner.hides(Key::minimum(), Key::maximum())) report_unmapped_damage();
  return complete;
}

std::string ItemPass::where() const {
  return fmt::format("inode {}", object_.ino);
}

bool ItemPass::in_data_area(BlockRange range) const {
  return range.start.value >= data_start_ && range.start.value < data_end_ &&
         range.length_blocks <= data_end_ - range.start.value;
}

void ItemPass::visit(const Item& item) {
  const uint64_t count = ++reporter_.counts().items;
  if (count % 8192 == 0) reporter_.progress("items", count, 0);
  if (item.key.object != object_.ino) {
    finish_object();
    object_ = Object();
    object_.ino = item.key.object;
    object_.partly_hidden =
        scanner_->hides(Key(object_.ino, 0, 0), Key(object_.ino, UINT8_MAX, UINT64_MAX));
  }
  const auto kind = static_cast<ItemKind>(item.key.kind);
  if (object_.ino != kGlobalObject && kind != ItemKind::inode && !object_.has_inode &&
      !object_.reported_without_inode && !object_.partly_hidden) {
    object_.reported_without_inode = true;
    reporter_.add(ProblemId::item_without_inode, where(), key_to_text(item.key));
  }
  const Status status = validate_item(item.key, item.value, store_.interval());
  if (!status.ok()) {
    if (kind == ItemKind::inode) {
      object_.has_inode = true;
      ledger_.inodes[object_.ino].present = true;
    }
    reporter_.add(ProblemId::item_invalid, "item " + key_to_text(item.key),
                  status.error().detail());
    return;
  }
  switch (kind) {
    case ItemKind::inode:
      return visit_inode(item);
    case ItemKind::dirent:
      return visit_dirent(item);
    case ItemKind::inline_data:
      return visit_inline_data(item);
    case ItemKind::extent:
      return visit_extent(item);
    case ItemKind::orphan:
      return visit_orphan(item);
    case ItemKind::tuples:
      return visit_tuples(item);
    case ItemKind::reference:
      return visit_reference(item);
    case ItemKind::damage:
      return visit_damage(item);
    case ItemKind::xattr:
      return xattrs_.visit(item, object_.ino, object_.valid ? &object_.inode : nullptr);
    case ItemKind::delta:
      return;
  }
}

void ItemPass::finish_object() {
  xattrs_.finish(object_.partly_hidden);
  if (!object_.valid || object_.partly_hidden) return;
  if (object_.mapped_blocks != object_.inode.block_count) {
    reporter_.add(ProblemId::block_count, where(),
                  fmt::format("it says {}, its extents have {}",
                              uint64_t{object_.inode.block_count}, object_.mapped_blocks));
  }
  if ((object_.inode.mode & S_IFMT) == S_IFLNK &&
      (object_.target_broken || object_.target_bytes != object_.inode.size_bytes)) {
    reporter_.add(
        ProblemId::symlink_target, where(),
        fmt::format("{} of {} bytes", object_.target_bytes, uint64_t{object_.inode.size_bytes}));
  }
}

void ItemPass::visit_inode(const Item& item) {
  object_.has_inode = object_.valid = true;
  object_.inode = load<DiskInode>(item);
  InodeRecord& record = ledger_.inodes[object_.ino];
  record.present = record.valid = true;
  record.type = dirent_type_of(object_.inode.mode);
  record.link_count = object_.inode.link_count;
  record.parent = object_.inode.parent;
  record.size_bytes = object_.inode.size_bytes;
  ledger_.highest_ino = std::max(ledger_.highest_ino, object_.ino);
  CheckReport& counts = reporter_.counts();
  ++counts.inodes;
  switch (object_.inode.mode & S_IFMT) {
    case S_IFDIR:
      ++counts.directories;
      break;
    case S_IFREG:
      ++counts.files;
      break;
    case S_IFLNK:
      ++counts.symlinks;
      break;
    default:
      ++counts.others;
  }
}

bool ItemPass::expect_type(const Item& item, uint32_t type) {
  if (!object_.valid || (object_.inode.mode & S_IFMT) == type) return true;
  reporter_.add(
      ProblemId::item_unexpected, where(),
      fmt::format("{} with mode {:o}", key_to_text(item.key), uint32_t{object_.inode.mode}));
  return false;
}

void ItemPass::visit_dirent(const Item& item) {
  ++reporter_.counts().entries;
  if (!expect_type(item, S_IFDIR)) return;
  const auto dirent = load<DiskDirent>(item);
  const std::string name(reinterpret_cast<const char*>(item.value.data()) + sizeof dirent,
                         dirent.name_length);
  check_name(item, name);
  InodeRecord& target = ledger_.inodes[dirent.ino];
  if (target.entries++ == 0) {
    target.first_parent = object_.ino;
    target.entry_type = dirent.type;
  } else if (target.entry_type != dirent.type) {
    target.type_conflict = true;
  }
  if (dirent.type == dirent_type_of(S_IFDIR)) ++ledger_.inodes[object_.ino].subdirectories;
}

void ItemPass::check_name(const Item& item, const std::string& name) {
  const uint64_t hash = hash_of_cookie(item.key.offset);
  if (hash != dirent_hash(superblock_.hash_seed, name)) {
    reporter_.add(ProblemId::dirent_hash, where(), item_to_text(item.key, item.value, {}));
  }
  if (hash != object_.name_hash) {
    object_.name_hash = hash;
    object_.names.clear();
  }
  if (std::find(object_.names.begin(), object_.names.end(), name) != object_.names.end()) {
    reporter_.add(ProblemId::dirent_duplicate, where(), item_to_text(item.key, item.value, {}));
  }
  object_.names.push_back(name);
}

void ItemPass::visit_inline_data(const Item& item) {
  if (!expect_type(item, S_IFLNK)) return;
  // Only the last chunk may be short, so each begins where the bytes before it end.
  if (item.key.offset != object_.target_bytes) object_.target_broken = true;
  if (std::find(item.value.begin(), item.value.end(), std::byte{0}) != item.value.end()) {
    object_.target_broken = true;
  }
  object_.target_bytes += item.value.size();
}

void ItemPass::visit_extent(const Item& item) {
  CheckReport& counts = reporter_.counts();
  ++counts.extents;
  const auto extent = load<DiskExtent>(item);
  const bool unwritten = (extent.flags & kExtentUnwritten) != 0;
  expect_type(item, S_IFREG);
  (unwritten ? counts.unwritten_blocks : counts.data_blocks) += extent.length_blocks;
  object_.mapped_blocks += extent.length_blocks;
  if (item.key.offset < object_.end_block) {
    reporter_.add(ProblemId::extent_overlap, where(),
                  fmt::format("file block {}", item.key.offset));
  }
  object_.end_block = std::max(object_.end_block, item.key.offset + extent.length_blocks);
  if (!unwritten) check_end_of_file(item.key.offset, extent.length_blocks);

  if (!in_data_area({Lba(extent.lba), extent.length_blocks})) {
    reporter_.add(ProblemId::extent_range, where(),
                  fmt::format("file block {} at {}", item.key.offset,
                              range_to_text({Lba(extent.lba), extent.length_blocks})));
    return;
  }
  claim_blocks(extent);
  if (!unwritten) settle_damage(item.key.offset, extent);
  if ((extent.flags & kExtentTuplesInline) != 0) {
    check_tuple_tags(std::span(item.value).subspan(sizeof extent), Lba(extent.lba));
  }
}

void ItemPass::check_end_of_file(uint64_t first_block, uint64_t length_blocks) {
  if (!object_.valid) return;
  uint64_t end_block = first_block + length_blocks;
  if (auto orphan = ledger_.orphans.find(object_.ino); orphan != ledger_.orphans.end()) {
    // What an intent will free may still be there.
    end_block = std::min<uint64_t>(end_block, orphan->second.start_block);
  }
  const uint64_t file_blocks = blocks_for_bytes(object_.inode.size_bytes);
  if (end_block <= file_blocks || end_block <= first_block) return;
  reporter_.add(ProblemId::extent_beyond_end, where(),
                fmt::format("file blocks {}+{}, size {}", first_block, length_blocks,
                            uint64_t{object_.inode.size_bytes}));
}

void ItemPass::claim_blocks(const DiskExtent& extent) {
  const bool keyed = (extent.flags & (kExtentUnwritten | kExtentTuplesInline)) == 0;
  BlockRunReporter shared(reporter_, ProblemId::block_shared, where());
  BlockRunReporter with_node(reporter_, ProblemId::block_shared, where() + ", tree node");
  BlockRunReporter unwritten(reporter_, ProblemId::reference_unwritten, where());
  const uint64_t end = extent.lba + extent.length_blocks;
  for (uint64_t lba = extent.lba; lba < end; ++lba) {
    if (nodes_.contains(Lba(lba))) with_node.add(lba);
    const bool first = ledger_.mapped.insert(Lba(lba));
    if (keyed) ledger_.needs_tuples.insert(Lba(lba));
    if (ledger_.references.empty() || ledger_.reference_at(lba) == nullptr) {
      if (!first) shared.add(lba);
      continue;
    }
    ++ledger_.references_seen[lba];
    if ((extent.flags & kExtentUnwritten) != 0) unwritten.add(lba);
  }
}

// Items of the list come before all extents.
void ItemPass::settle_damage(uint64_t first_block, const DiskExtent& extent) {
  auto at = ledger_.damage.lower_bound(extent.lba);
  while (at != ledger_.damage.end() && at->first < extent.lba + extent.length_blocks) {
    const DiskDamage& damage = at->second;
    const bool ours =
        damage.passed_on != 0 ||
        (damage.ino == object_.ino && damage.file_block == first_block + (at->first - extent.lba));
    at = ours ? ledger_.damage.erase(at) : std::next(at);
  }
}

void ItemPass::report_unmapped_damage() {
  for (const auto& [lba, damage] : ledger_.damage) {
    reporter_.add(ProblemId::damage_unmapped, fmt::format("inode {}", uint64_t{damage.ino}),
                  fmt::format("file block {}, block {}", uint64_t{damage.file_block}, lba));
  }
}

void ItemPass::check_tuple_tags(std::span<const std::byte> tuples, Lba lba) {
  const uint64_t per_block = tuples_per_block(store_.interval());
  for (uint64_t i = 0; i * sizeof(Tuple) < tuples.size(); ++i) {
    Tuple tuple;
    std::memcpy(&tuple, tuples.data() + i * sizeof tuple, sizeof tuple);
    const uint64_t block = lba.value + i / per_block;
    const auto expected = static_cast<uint32_t>(lba.value * per_block + i);
    if (tuple.reference_tag != expected) {
      reporter_.add(
          ProblemId::tuple_reference_tag, fmt::format("block {}", block),
          fmt::format("{:08x} instead of {:08x}", uint32_t{tuple.reference_tag}, expected));
    }
    if (tuple.app_tag == kEscapeAppTag) {
      reporter_.add(ProblemId::tuple_app_tag, fmt::format("block {}", block));
    }
  }
}

void ItemPass::visit_orphan(const Item& item) {
  ++reporter_.counts().orphans;
  ledger_.orphans[item.key.offset] = load<DiskOrphan>(item);
}

void ItemPass::visit_tuples(const Item& item) {
  const uint64_t per_block = tuples_per_block(store_.interval());
  const BlockRange range{Lba(item.key.offset), item.value.size() / sizeof(Tuple) / per_block};
  if (!in_data_area(range)) {
    reporter_.add(ProblemId::tuples_unreferenced, range_to_text(range),
                  "outside the area for data");
    return;
  }
  BlockRunReporter overlap(reporter_, ProblemId::tuples_overlap, "");
  for (uint64_t i = 0; i < range.length_blocks; ++i) {
    if (!ledger_.has_tuples.insert(range.start + i)) overlap.add(range.start.value + i);
  }
  check_tuple_tags(item.value, range.start);
}

void ItemPass::visit_reference(const Item& item) {
  const auto reference = load<DiskReference>(item);
  const BlockRange range{Lba(item.key.offset), reference.length_blocks};
  if (!in_data_area(range)) {
    reporter_.add(ProblemId::reference_count, range_to_text(range), "outside the area for data");
    return;
  }
  if (ledger_.reference_at(range.start.value) != nullptr) {
    reporter_.add(ProblemId::reference_overlap, range_to_text(range));
    return;
  }
  ledger_.references[range.start.value] = {range.length_blocks, reference.count};
}

void ItemPass::visit_damage(const Item& item) {
  ++reporter_.counts().damaged_blocks;
  ledger_.damage[item.key.offset] = load<DiskDamage>(item);
}

}  // namespace stablefs
