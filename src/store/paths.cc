// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/paths.h"

#include <algorithm>
#include <cstring>

#include "format/items.h"

namespace stablefs {
namespace {

constexpr size_t kBatchItems = 1000;
constexpr uint32_t kDepthMax = 1024;  // a loop of directories is damage, too

struct Entry {
  Ino ino;
  std::string name;
};

std::optional<Entry> parse_entry(Store& store, const Item& item) {
  if (!validate_item(item.key, item.value, store.interval()).ok()) return std::nullopt;
  DiskDirent dirent;
  std::memcpy(&dirent, item.value.data(), sizeof dirent);
  const char* name = reinterpret_cast<const char*>(item.value.data()) + sizeof dirent;
  return Entry{Ino(dirent.ino), std::string(name, item.value.size() - sizeof dirent)};
}

// Behind the items of a kind that comes after the entries there are none of this object.
Key next_key(const Key& last) {
  if (last.kind > static_cast<uint8_t>(ItemKind::dirent)) return Key(last.object + 1, 0, 0);
  return Key(last.object, last.kind, last.offset + 1);
}

std::optional<Ino> parent_of(Store& store, Ino directory) {
  const Key key(directory, ItemKind::inode, 0);
  const auto value = store.get(key);
  if (!value.ok() || !*value) return std::nullopt;
  if (!validate_item(key, **value, store.interval()).ok()) return std::nullopt;
  DiskInode inode;
  std::memcpy(&inode, (*value)->data(), sizeof inode);
  return Ino(inode.parent);
}

// The entry of `directory` that leads to `ino`.
std::optional<std::string> name_in(Store& store, Ino directory, Ino ino) {
  Key first(directory, ItemKind::dirent, 0);
  const Key last(directory, ItemKind::dirent, ~0ull);
  while (true) {
    const auto items = store.scan(first, last, kBatchItems);
    if (!items.ok()) return std::nullopt;
    for (const Item& item : *items) {
      auto entry = parse_entry(store, item);
      if (entry && entry->ino == ino) return std::move(entry->name);
    }
    if (items->size() < kBatchItems) return std::nullopt;
    first = items->back().key;
    ++first.offset;
  }
}

}  // namespace

std::map<Ino, EntryPlace> find_entries(Store& store, const std::set<Ino>& inos,
                                       uint64_t items_max) {
  std::map<Ino, EntryPlace> found;
  Key from(kRootIno, ItemKind::inode, 0);
  for (uint64_t seen = 0; found.size() < inos.size() && seen < items_max;) {
    const auto items = store.scan(from, Key::maximum(), kBatchItems);
    if (!items.ok()) break;
    for (const Item& item : *items) {
      if (item.key.kind != static_cast<uint8_t>(ItemKind::dirent)) continue;
      const auto entry = parse_entry(store, item);
      if (!entry || !inos.contains(entry->ino)) continue;
      found.emplace(entry->ino, EntryPlace{Ino(item.key.object), item.key.offset});
    }
    if (items->size() < kBatchItems) break;
    seen += items->size();
    from = next_key(items->back().key);
  }
  return found;
}

std::optional<std::string> path_of_entry(Store& store, const EntryPlace& place, Ino ino) {
  const Key key(place.directory, ItemKind::dirent, place.cookie);
  const auto value = store.get(key);
  if (!value.ok() || !*value) return std::nullopt;
  const auto entry = parse_entry(store, {key, **value});
  if (!entry || entry->ino != ino) return std::nullopt;
  std::string path = "/" + entry->name;
  Ino directory = place.directory;
  for (uint32_t depth = 0; directory != kRootIno; ++depth) {
    const auto parent = parent_of(store, directory);
    if (!parent || depth == kDepthMax) return std::nullopt;
    const auto name = name_in(store, *parent, directory);
    if (!name) return std::nullopt;
    path = "/" + *name + path;
    directory = *parent;
  }
  return path;
}

std::map<Ino, std::string> find_paths(Store& store, const std::set<Ino>& inos) {
  std::map<Ino, std::string> paths;
  for (const auto& [ino, place] : find_entries(store, inos)) {
    if (auto path = path_of_entry(store, place, ino)) paths.emplace(ino, std::move(*path));
  }
  return paths;
}

}  // namespace stablefs
