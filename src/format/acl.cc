// SPDX-License-Identifier: GPL-2.0-or-later
#include "format/acl.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace stablefs {
namespace {

constexpr uint16_t kAllPermissions = 7;
constexpr uint32_t kNoId = ~0u;
constexpr uint32_t kPermissionBits = 0777;

bool is_named(AclTag tag) {
  return tag == AclTag::user || tag == AclTag::group;
}

bool known_tag(uint16_t tag) {
  switch (static_cast<AclTag>(tag)) {
    case AclTag::user_object:
    case AclTag::user:
    case AclTag::group_object:
    case AclTag::group:
    case AclTag::mask:
    case AclTag::other:
      return true;
  }
  return false;
}

AclEntry* find(Acl& acl, AclTag tag) {
  const auto found = std::find_if(acl.begin(), acl.end(),
                                  [tag](const AclEntry& entry) { return entry.tag == tag; });
  return found == acl.end() ? nullptr : &*found;
}

const AclEntry* find(const Acl& acl, AclTag tag) {
  return find(const_cast<Acl&>(acl), tag);
}

// What the group bits of a mode stand for.
AclEntry& group_class(Acl& acl) {
  AclEntry* mask = find(acl, AclTag::mask);
  return mask != nullptr ? *mask : *find(acl, AclTag::group_object);
}

bool is_complete(const Acl& acl) {
  for (const AclTag tag : {AclTag::user_object, AclTag::group_object, AclTag::other}) {
    if (find(acl, tag) == nullptr) return false;
  }
  const bool names = std::any_of(acl.begin(), acl.end(),
                                 [](const AclEntry& entry) { return is_named(entry.tag); });
  return !names || find(acl, AclTag::mask) != nullptr;
}

struct Bits {
  AclEntry* entry;
  uint32_t shift;
};
// Where the three classes of a mode are in a valid list.
std::array<Bits, 3> classes(Acl& acl) {
  return {
      {{find(acl, AclTag::user_object), 6}, {&group_class(acl), 3}, {find(acl, AclTag::other), 0}}};
}

}  // namespace

Result<Acl> parse_acl(std::span<const std::byte> value) {
  DiskAclHeader header;
  if (value.size() < sizeof header) return ErrorCode::acl_invalid;
  std::memcpy(&header, value.data(), sizeof header);
  value = value.subspan(sizeof header);
  if (header.version != kAclVersion || value.size() % sizeof(DiskAclEntry) != 0) {
    return ErrorCode::acl_invalid;
  }
  Acl acl;
  for (; !value.empty(); value = value.subspan(sizeof(DiskAclEntry))) {
    DiskAclEntry entry;
    std::memcpy(&entry, value.data(), sizeof entry);
    if (!known_tag(entry.tag) || entry.permissions > kAllPermissions) return ErrorCode::acl_invalid;
    const auto tag = static_cast<AclTag>(uint16_t{entry.tag});
    if (is_named(tag) && entry.id == kNoId) return ErrorCode::acl_invalid;
    const bool in_order =
        acl.empty() || acl.back().tag < tag || (acl.back().tag == tag && is_named(tag));
    if (!in_order) return ErrorCode::acl_invalid;
    acl.push_back({tag, entry.permissions, is_named(tag) ? uint32_t{entry.id} : kNoId});
  }
  if (!is_complete(acl)) return ErrorCode::acl_invalid;
  return acl;
}

std::vector<std::byte> acl_value(const Acl& acl) {
  std::vector<std::byte> value(sizeof(DiskAclHeader) + acl.size() * sizeof(DiskAclEntry));
  DiskAclHeader header;
  header.version = kAclVersion;
  std::memcpy(value.data(), &header, sizeof header);
  for (size_t i = 0; i < acl.size(); ++i) {
    DiskAclEntry entry;
    entry.tag = static_cast<uint16_t>(acl[i].tag);
    entry.permissions = acl[i].permissions;
    entry.id = acl[i].id;
    std::memcpy(value.data() + sizeof header + i * sizeof entry, &entry, sizeof entry);
  }
  return value;
}

uint32_t permissions_of_acl(const Acl& acl) {
  uint32_t mode = 0;
  for (const Bits& bits : classes(const_cast<Acl&>(acl))) {
    mode |= uint32_t{bits.entry->permissions} << bits.shift;
  }
  return mode;
}

bool is_minimal_acl(const Acl& acl) {
  return std::none_of(acl.begin(), acl.end(), [](const AclEntry& entry) {
    return is_named(entry.tag) || entry.tag == AclTag::mask;
  });
}

void set_acl_permissions(Acl& acl, uint32_t mode) {
  for (const Bits& bits : classes(acl)) {
    bits.entry->permissions = static_cast<uint16_t>(mode >> bits.shift & kAllPermissions);
  }
}

uint32_t restrict_acl(Acl& acl, uint32_t mode) {
  set_acl_permissions(acl, permissions_of_acl(acl) & mode);
  return (mode & ~kPermissionBits) | permissions_of_acl(acl);
}

}  // namespace stablefs
