// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/damage.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "format/items.h"
#include "store/paths.h"

namespace stablefs {
namespace {

constexpr size_t kBatchItems = 1000;

Result<DamageEntry> parse(const Item& item, Interval interval) {
  FS_TRY(validate_item(item.key, item.value, interval));
  DiskDamage disk;
  FS_ASSERT(item.value.size() == sizeof disk);
  std::memcpy(&disk, item.value.data(), sizeof disk);
  DamageEntry entry;
  entry.lba = Lba(item.key.offset);
  entry.ino = Ino(disk.ino);
  entry.file_block = disk.file_block;
  entry.kind = static_cast<DamageKind>(disk.kind);
  entry.expected = disk.expected;
  entry.found = disk.found;
  entry.seen = from_disk(disk.time);
  entry.passed_on = disk.passed_on != 0;
  return entry;
}

}  // namespace

Key damage_key(Lba lba) {
  return Key::global(ItemKind::damage, lba.value);
}

DiskDamage to_disk(const DamageEntry& entry) {
  DiskDamage disk{};
  disk.ino = entry.ino.value;
  disk.file_block = entry.file_block;
  disk.time = to_disk(entry.seen);
  disk.expected = entry.expected;
  disk.found = entry.found;
  disk.kind = static_cast<uint8_t>(entry.kind);
  disk.passed_on = entry.passed_on ? 1 : 0;
  return disk;
}

Result<std::vector<DamageEntry>> read_damage(Store& store, Lba from, size_t limit) {
  std::vector<DamageEntry> entries;
  const Key last = damage_key(Lba(~0ull));
  for (Key first = damage_key(from); entries.size() < limit;) {
    const size_t batch = std::min(kBatchItems, limit - entries.size());
    const auto items = FS_TRY(store.scan(first, last, batch));
    for (const Item& item : items) entries.push_back(FS_TRY(parse(item, store.interval())));
    if (items.size() < batch) break;
    first = items.back().key;
    ++first.offset;
  }
  return entries;
}

namespace {

// Extents of all files: which of them has the block of one of the entries?
void find_owners(Store& store, std::map<Lba, DamageEntry*>& wanted) {
  Key first(Ino(1), ItemKind::inode, 0);
  while (!wanted.empty()) {
    const auto items = store.scan(first, Key::maximum(), kBatchItems);
    if (!items.ok()) return;
    for (const Item& item : *items) {
      if (item.key.kind != static_cast<uint8_t>(ItemKind::extent)) continue;
      if (!validate_item(item.key, item.value, store.interval()).ok()) continue;
      DiskExtent extent;
      std::memcpy(&extent, item.value.data(), sizeof extent);
      if ((extent.flags & kExtentUnwritten) != 0) continue;
      auto at = wanted.lower_bound(Lba(extent.lba));
      while (at != wanted.end() && at->first.value < extent.lba + extent.length_blocks) {
        at->second->ino = Ino(item.key.object);
        at->second->file_block = item.key.offset + (at->first.value - extent.lba);
        at = wanted.erase(at);
      }
    }
    if (items->size() < kBatchItems) return;
    first = items->back().key;
    if (++first.offset == 0) ++first.kind;
  }
}

}  // namespace

void find_damage_paths(Store& store, std::vector<DamageEntry>& entries) {
  std::map<Lba, DamageEntry*> passed_on;
  for (DamageEntry& entry : entries) {
    if (entry.passed_on) passed_on.emplace(entry.lba, &entry);
  }
  find_owners(store, passed_on);
  std::set<Ino> inos;
  for (const DamageEntry& entry : entries) inos.insert(entry.ino);
  const std::map<Ino, std::string> paths = find_paths(store, inos);
  for (DamageEntry& entry : entries) {
    const auto found = paths.find(entry.ino);
    if (found != paths.end()) entry.path = found->second;
  }
}

}  // namespace stablefs
