// SPDX-License-Identifier: GPL-2.0-or-later
#include "format/xattr.h"

namespace stablefs {

std::optional<XattrNamespace> namespace_of_xattr(std::string_view name) {
  struct Known {
    std::string_view prefix;
    XattrNamespace space;
  };
  constexpr Known kSpaces[] = {
      {"user.", XattrNamespace::user},
      {"trusted.", XattrNamespace::trusted},
      {"security.", XattrNamespace::security},
  };
  if (name == kAccessAclName || name == kDefaultAclName) return XattrNamespace::acl;
  for (const Known& known : kSpaces) {
    if (name.starts_with(known.prefix) && name.size() > known.prefix.size()) return known.space;
  }
  return std::nullopt;
}

std::string_view xattr_name(std::span<const std::byte> first_chunk) {
  const auto* header = reinterpret_cast<const DiskXattr*>(first_chunk.data());
  return {reinterpret_cast<const char*>(first_chunk.data()) + sizeof *header, header->name_length};
}

}  // namespace stablefs
