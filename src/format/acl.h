// SPDX-License-Identifier: GPL-2.0-or-later
// POSIX access control lists: validation, and what they and the permissions in a mode owe each
// other. Pure; see DiskAclEntry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "stablefs/format.h"

namespace stablefs {

struct AclEntry {
  AclTag tag;
  uint16_t permissions;
  uint32_t id;

  friend bool operator==(const AclEntry&, const AclEntry&) = default;
};
using Acl = std::vector<AclEntry>;

// acl_invalid when version, order of the entries, permissions or ids are not as they must be, or
// an entry that every list needs is missing or doubled.
Result<Acl> parse_acl(std::span<const std::byte> value);
std::vector<std::byte> acl_value(const Acl& acl);

// The permission bits (0777) of a mode that goes with the list.
uint32_t permissions_of_acl(const Acl& acl);
// It says no more than those.
bool is_minimal_acl(const Acl& acl);
// chmod: the entries that stand for the bits follow the mode.
void set_acl_permissions(Acl& acl, uint32_t mode);
// A file made with `mode` under this default list: what is not in the mode is taken from the list,
// and the other way round. The list is then the file's own; returns its mode.
uint32_t restrict_acl(Acl& acl, uint32_t mode);

}  // namespace stablefs
