// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs/xattrs.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "format/items.h"

namespace stablefs {
namespace {

using Bytes = std::span<const std::byte>;

DiskXattr header_of(Bytes first_chunk) {
  DiskXattr header;
  FS_ASSERT(first_chunk.size() >= sizeof header);
  std::memcpy(&header, first_chunk.data(), sizeof header);
  return header;
}

uint32_t chunks_of(Bytes first_chunk) {
  const DiskXattr header = header_of(first_chunk);
  return xattr_chunks(header.name_length, header.value_length_bytes);
}

// The attribute that begins with items[at]; chunks that are missing are damage.
Result<Xattrs::Found> assemble(std::span<const Item> items, size_t at) {
  const Item& first = items[at];
  const DiskXattr header = header_of(first.value);
  Xattrs::Found found{first.key.offset, chunks_of(first.value), {}};
  const size_t skipped = sizeof header + header.name_length;
  found.value.assign(first.value.begin() + static_cast<ptrdiff_t>(skipped), first.value.end());
  for (uint32_t chunk = 1; chunk < found.chunks; ++chunk) {
    const size_t next = at + chunk;
    const bool there = next < items.size() && items[next].key.offset == first.key.offset + chunk;
    if (!there)
      return Error(ErrorCode::item_invalid, key_to_text(first.key) + ": a chunk is missing");
    found.value.insert(found.value.end(), items[next].value.begin(), items[next].value.end());
  }
  if (found.value.size() != header.value_length_bytes) {
    return Error(ErrorCode::item_invalid, key_to_text(first.key) + ": length of the value");
  }
  return found;
}

}  // namespace

Result<std::vector<Item>> Xattrs::scan(Ino ino, uint64_t first, uint64_t last, size_t limit) {
  auto items =
      FS_TRY(store_.scan(Key(ino, ItemKind::xattr, first), Key(ino, ItemKind::xattr, last), limit));
  const Interval interval = store_.interval();
  for (const Item& item : items) FS_TRY(validate_item(item.key, item.value, interval));
  return items;
}

Result<Xattrs::Place> Xattrs::locate(Ino ino, std::string_view name) {
  const uint64_t hash = xattr_hash(hash_(name));
  constexpr size_t kItemsMax = size_t{kXattrOrdinals} * kMaxXattrChunks;
  const auto items =
      FS_TRY(scan(ino, xattr_offset(hash, 0, 0),
                  xattr_offset(hash, kXattrOrdinals - 1, kMaxXattrChunks - 1), kItemsMax));
  Place place;
  uint32_t free_ordinal = 0;
  for (size_t at = 0; at < items.size(); ++at) {
    const uint64_t offset = items[at].key.offset;
    if (chunk_of_xattr(offset) != 0) continue;
    if (xattr_name(items[at].value) == name) {
      place.found = FS_TRY(assemble(items, at));
      return place;
    }
    if (ordinal_of_xattr(offset) == free_ordinal) ++free_ordinal;
  }
  if (free_ordinal < kXattrOrdinals) place.free_first = xattr_offset(hash, free_ordinal, 0);
  return place;
}

Result<std::optional<Xattrs::Found>> Xattrs::find(Ino ino, std::string_view name) {
  return std::move(FS_TRY(locate(ino, name)).found);
}

// Only the first chunks are looked at: values may be large.
Result<std::vector<std::string>> Xattrs::names(Ino ino) {
  std::vector<std::string> names;
  for (uint64_t from = 0;;) {
    const auto items = FS_TRY(scan(ino, from, ~0ull, 1));
    if (items.empty()) return names;
    const uint64_t offset = items[0].key.offset;
    if (chunk_of_xattr(offset) != 0) {
      return Error(ErrorCode::item_invalid, key_to_text(items[0].key) + ": no first chunk");
    }
    names.emplace_back(xattr_name(items[0].value));
    from =
        xattr_offset(hash_of_xattr(offset), ordinal_of_xattr(offset), (1u << kXattrChunkBits) - 1);
    if (from == ~0ull) return names;
    ++from;
  }
}

Result<bool> Xattrs::any(Ino ino) {
  return !FS_TRY(scan(ino, 0, ~0ull, 1)).empty();
}

void Xattrs::put(Transaction& transaction, Ino ino, const Place& place, std::string_view name,
                 Bytes value) {
  FS_ASSERT(place.found || place.free_first);
  FS_ASSERT(name.size() <= kMaxXattrNameBytes && value.size() <= kMaxXattrValueBytes);
  DiskXattr header{};
  header.value_length_bytes = static_cast<uint32_t>(value.size());
  header.name_length = static_cast<uint8_t>(name.size());
  std::vector<std::byte> whole(sizeof header + name.size() + value.size());
  std::memcpy(whole.data(), &header, sizeof header);
  std::memcpy(whole.data() + sizeof header, name.data(), name.size());
  std::copy(value.begin(), value.end(),
            whole.begin() + static_cast<ptrdiff_t>(sizeof header + name.size()));
  const uint64_t first = place.found ? place.found->first : *place.free_first;
  uint32_t chunk = 0;
  for (size_t at = 0; at < whole.size(); at += kMaxValueBytes, ++chunk) {
    const size_t length = std::min<size_t>(kMaxValueBytes, whole.size() - at);
    transaction.put(Key(ino, ItemKind::xattr, first + chunk), Bytes(whole).subspan(at, length));
  }
  for (; place.found && chunk < place.found->chunks; ++chunk) {
    transaction.erase(Key(ino, ItemKind::xattr, first + chunk));
  }
}

void Xattrs::erase(Transaction& transaction, Ino ino, const Found& found) {
  for (uint32_t chunk = 0; chunk < found.chunks; ++chunk) {
    transaction.erase(Key(ino, ItemKind::xattr, found.first + chunk));
  }
}

void Xattrs::put_first(Transaction& transaction, Ino ino, std::span<const Named> attributes) {
  std::vector<uint64_t> hashes;
  for (const auto& [name, value] : attributes) {
    const uint64_t hash = xattr_hash(hash_(name));
    const auto ordinal = static_cast<uint32_t>(std::count(hashes.begin(), hashes.end(), hash));
    hashes.push_back(hash);
    Place place;
    place.free_first = xattr_offset(hash, ordinal, 0);
    put(transaction, ino, place, name, value);
  }
}

Result<bool> Xattrs::erase_all(Store& store, Transaction& transaction, Ino ino, size_t limit) {
  const auto items =
      FS_TRY(store.scan(Key(ino, ItemKind::xattr, 0), Key(ino, ItemKind::xattr, ~0ull), limit + 1));
  if (items.size() > limit) return false;
  for (const Item& item : items) transaction.erase(item.key);
  return true;
}

Result<bool> Xattrs::erase_some(Store& store, Transaction& transaction, Ino ino, size_t limit) {
  const auto items =
      FS_TRY(store.scan(Key(ino, ItemKind::xattr, 0), Key(ino, ItemKind::xattr, ~0ull), limit + 1));
  const size_t erased = std::min(limit, items.size());
  for (size_t i = 0; i < erased; ++i) transaction.erase(items[i].key);
  return items.size() <= limit;
}

}  // namespace stablefs
