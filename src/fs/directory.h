// SPDX-License-Identifier: GPL-2.0-or-later
// The entries of a directory as items: found by the hash of the name, listed by cookie. Knows
// nothing of inodes and takes no lock: the caller holds the directory's `names`, or its attribute
// mutex for `empty`.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/dirent.h"
#include "store/store.h"

namespace stablefs {

// From 1 to kDirentHashMax. A parameter so that tests can make names collide.
using NameHash = std::function<uint64_t(std::string_view name)>;

struct Dirent {
  uint64_t cookie;  // offset of its key
  Ino ino;
  uint8_t type;  // DT_*
  std::string name;
};

// Cookies of the two entries that are no items.
inline constexpr uint64_t kDotCookie = 1;
inline constexpr uint64_t kDotDotCookie = 2;

class Directories {
 public:
  Directories(Store& store, NameHash hash) : store_(store), hash_(std::move(hash)) {}

  Result<std::optional<Dirent>> find(Ino directory, std::string_view name);

  struct Place {
    std::optional<Dirent> found;          // the name is there already, or
    std::optional<uint64_t> free_cookie;  // where it would go; nothing: too many names of one hash
  };
  Result<Place> locate(Ino directory, std::string_view name);

  // At most `limit` entries behind `after`, in order of their cookies.
  Result<std::vector<Dirent>> list(Ino directory, uint64_t after, size_t limit);
  Result<bool> empty(Ino directory);

  static void put(Transaction& transaction, Ino directory, const Dirent& dirent);
  static void erase(Transaction& transaction, Ino directory, uint64_t cookie);

 private:
  Result<std::vector<Dirent>> scan(Ino directory, uint64_t first, uint64_t last, size_t limit);

  Store& store_;
  const NameHash hash_;
};

// The name may be given to an entry: length and bytes; says nothing about "." and "..".
Status check_name(std::string_view name);
inline bool is_dot_or_dot_dot(std::string_view name) {
  return name == "." || name == "..";
}

}  // namespace stablefs
