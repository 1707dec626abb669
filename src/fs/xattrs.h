// SPDX-License-Identifier: GPL-2.0-or-later
// The extended attributes of an inode as items. Knows nothing of inodes and takes no lock: the
// caller holds the inode's attribute mutex.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "format/xattr.h"
#include "fs/directory.h"
#include "store/store.h"

namespace stablefs {

class Xattrs {
 public:
  Xattrs(Store& store, NameHash hash) : store_(store), hash_(std::move(hash)) {}

  struct Found {
    uint64_t first;  // offset of chunk 0
    uint32_t chunks;
    std::vector<std::byte> value;
  };
  Result<std::optional<Found>> find(Ino ino, std::string_view name);

  struct Place {
    std::optional<Found> found;          // it is there already, or
    std::optional<uint64_t> free_first;  // where it would go; nothing: too many names of one hash
  };
  Result<Place> locate(Ino ino, std::string_view name);

  Result<std::vector<std::string>> names(Ino ino);
  Result<bool> any(Ino ino);

  // In place of what was found, or at the place that is free.
  static void put(Transaction& transaction, Ino ino, const Place& place, std::string_view name,
                  std::span<const std::byte> value);
  static void erase(Transaction& transaction, Ino ino, const Found& found);
  // All that a new inode gets.
  using Named = std::pair<std::string_view, std::vector<std::byte>>;
  void put_first(Transaction& transaction, Ino ino, std::span<const Named> attributes);

  // Erases the items of all attributes; false, and nothing erased, when there are more than
  // `limit`.
  static Result<bool> erase_all(Store& store, Transaction& transaction, Ino ino, size_t limit);
  // Erases at most `limit` items; true when there are no others.
  static Result<bool> erase_some(Store& store, Transaction& transaction, Ino ino, size_t limit);

 private:
  Result<std::vector<Item>> scan(Ino ino, uint64_t first, uint64_t last, size_t limit);

  Store& store_;
  const NameHash hash_;
};

}  // namespace stablefs
