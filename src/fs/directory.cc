// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/directory.h"

#include <array>
#include <cstring>

#include "base/assert.h"
#include "format/items.h"

namespace stablefs {
namespace {

constexpr uint64_t kFirstCookie = 4;
constexpr uint64_t kLastCookie = (1ull << 63) - 2;

Result<Dirent> parse(const Item& item, Interval interval) {
  FS_TRY(validate_item(item.key, item.value, interval));
  DiskDirent disk;
  FS_ASSERT(item.value.size() >= sizeof disk);
  std::memcpy(&disk, item.value.data(), sizeof disk);
  const char* name = reinterpret_cast<const char*>(item.value.data()) + sizeof disk;
  return Dirent{item.key.offset, Ino(disk.ino), disk.type,
                std::string(name, item.value.size() - sizeof disk)};
}

}  // namespace

Status check_name(std::string_view name) {
  if (name.empty()) return ErrorCode::not_found;
  if (name.size() > kMaxNameBytes) return ErrorCode::name_too_long;
  for (const char c : name) {
    if (c == '/' || c == '\0') return ErrorCode::name_invalid;
  }
  return {};
}

Result<std::vector<Dirent>> Directories::scan(Ino directory, uint64_t first, uint64_t last,
                                              size_t limit) {
  const auto items = FS_TRY(store_.scan(Key(directory, ItemKind::dirent, first),
                                        Key(directory, ItemKind::dirent, last), limit));
  std::vector<Dirent> dirents;
  dirents.reserve(items.size());
  const Interval interval = store_.interval();
  for (const Item& item : items) dirents.push_back(FS_TRY(parse(item, interval)));
  return dirents;
}

Result<std::optional<Dirent>> Directories::find(Ino directory, std::string_view name) {
  return std::move(FS_TRY(locate(directory, name)).found);
}

Result<Directories::Place> Directories::locate(Ino directory, std::string_view name) {
  const uint64_t first = dirent_cookie(hash_(name), 0);
  auto dirents = FS_TRY(scan(directory, first, first + kDirentOrdinals - 1, kDirentOrdinals));
  Place place;
  uint64_t free_cookie = first;
  for (Dirent& dirent : dirents) {
    if (dirent.name == name) {
      place.found = std::move(dirent);
      return place;
    }
    if (dirent.cookie == free_cookie) ++free_cookie;
  }
  if (free_cookie < first + kDirentOrdinals) place.free_cookie = free_cookie;
  return place;
}

Result<std::vector<Dirent>> Directories::list(Ino directory, uint64_t after, size_t limit) {
  if (after >= kLastCookie) return std::vector<Dirent>{};
  return scan(directory, std::max(after + 1, kFirstCookie), kLastCookie, limit);
}

Result<bool> Directories::empty(Ino directory) {
  const auto items = FS_TRY(store_.scan(Key(directory, ItemKind::dirent, kFirstCookie),
                                        Key(directory, ItemKind::dirent, kLastCookie), 1));
  return items.empty();
}

void Directories::put(Transaction& transaction, Ino directory, const Dirent& dirent) {
  FS_ASSERT(!dirent.name.empty() && dirent.name.size() <= kMaxNameBytes);
  std::array<std::byte, sizeof(DiskDirent) + kMaxNameBytes> value;
  DiskDirent disk;
  disk.ino = dirent.ino.value;
  disk.type = dirent.type;
  disk.name_length = static_cast<uint8_t>(dirent.name.size());
  std::memcpy(value.data(), &disk, sizeof disk);
  std::memcpy(value.data() + sizeof disk, dirent.name.data(), dirent.name.size());
  transaction.put(Key(directory, ItemKind::dirent, dirent.cookie),
                  std::span(value).first(sizeof disk + dirent.name.size()));
}

void Directories::erase(Transaction& transaction, Ino directory, uint64_t cookie) {
  transaction.erase(Key(directory, ItemKind::dirent, cookie));
}

}  // namespace stablefs
