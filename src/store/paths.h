// SPDX-License-Identifier: GPL-2.0-or-later
// Paths of inodes, for reports to people. Files do not know their names: the entries of all
// directories are looked through. Names that change meanwhile may be missed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/ids.h"
#include "store/store.h"

namespace stablefs {

// A directory entry.
struct EntryPlace {
  Ino directory;
  uint64_t cookie = 0;
};

// One entry of each of the inodes, among the first `items_max` items of the tree.
std::map<Ino, EntryPlace> find_entries(Store& store, const std::set<Ino>& inos,
                                       uint64_t items_max = UINT64_MAX);
// From the root to the entry, which must still lead to `ino`; nothing when it does not, or when
// the way up cannot be read.
std::optional<std::string> path_of_entry(Store& store, const EntryPlace& place, Ino ino);
// A path of each of the inodes that has one.
std::map<Ino, std::string> find_paths(Store& store, const std::set<Ino>& inos);

}  // namespace stablefs
