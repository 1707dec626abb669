// SPDX-License-Identifier: GPL-2.0-or-later
// The damage list as items {0, damage, LBA}: reading them, and giving them paths.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "store/store.h"

namespace stablefs {

// One mapped block whose contents could not be had.
struct DamageEntry {
  Lba lba;
  Ino ino;
  uint64_t file_block = 0;
  DamageKind kind = DamageKind::guard;
  uint32_t expected = 0, found = 0;
  Timestamp seen;  // first
  // The block was shared, and that file has given it up: another one has it.
  bool passed_on = false;
  std::string path;  // of one name of the inode; empty: none known
};

Key damage_key(Lba lba);
DiskDamage to_disk(const DamageEntry& entry);
// In order of their addresses, from `from` on, without paths.
Result<std::vector<DamageEntry>> read_damage(Store& store, Lba from, size_t limit);
// Looks through the whole tree, once for all entries; for those that were passed on, once more, for
// a file that has the block now, which is what they name then.
void find_damage_paths(Store& store, std::vector<DamageEntry>& entries);

}  // namespace stablefs
