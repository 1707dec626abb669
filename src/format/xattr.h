// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes as items: keys, chunks, and which names there may be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "format/dirent.h"
#include "stablefs/format.h"

namespace stablefs {

inline constexpr uint32_t kXattrHashBits = 64 - kXattrOrdinalBits - kXattrChunkBits;
inline constexpr uint64_t kXattrHashMax = (1ull << kXattrHashBits) - 1;
inline constexpr uint32_t kXattrOrdinals = 1u << kXattrOrdinalBits;

inline constexpr std::string_view kAccessAclName = "system.posix_acl_access";
inline constexpr std::string_view kDefaultAclName = "system.posix_acl_default";
inline constexpr std::string_view kCapabilityName = "security.capability";

// `name_hash` is what a directory entry of this name would have.
constexpr uint64_t xattr_hash(uint64_t name_hash) {
  return name_hash & kXattrHashMax;
}
constexpr uint64_t xattr_offset(uint64_t hash, uint32_t ordinal, uint32_t chunk) {
  return (hash << kXattrOrdinalBits | ordinal) << kXattrChunkBits | chunk;
}
constexpr uint64_t hash_of_xattr(uint64_t offset) {
  return offset >> (kXattrOrdinalBits + kXattrChunkBits);
}
constexpr uint32_t ordinal_of_xattr(uint64_t offset) {
  return static_cast<uint32_t>(offset >> kXattrChunkBits & (kXattrOrdinals - 1));
}
constexpr uint32_t chunk_of_xattr(uint64_t offset) {
  return static_cast<uint32_t>(offset & ((1u << kXattrChunkBits) - 1));
}

constexpr uint64_t xattr_bytes(uint64_t name_length, uint64_t value_length_bytes) {
  return sizeof(DiskXattr) + name_length + value_length_bytes;
}
constexpr uint32_t xattr_chunks(uint64_t name_length, uint64_t value_length_bytes) {
  const uint64_t bytes = xattr_bytes(name_length, value_length_bytes);
  return static_cast<uint32_t>((bytes + kMaxValueBytes - 1) / kMaxValueBytes);
}
inline constexpr uint32_t kMaxXattrChunks = xattr_chunks(kMaxXattrNameBytes, kMaxXattrValueBytes);
static_assert(kMaxXattrChunks <= 1u << kXattrChunkBits);

enum class XattrNamespace : uint8_t { user, trusted, security, acl };
// Nothing: such a name cannot be stored, also when nothing follows the namespace.
std::optional<XattrNamespace> namespace_of_xattr(std::string_view name);

// In chunk 0, which was found to be long enough; empty when the header says so.
std::string_view xattr_name(std::span<const std::byte> first_chunk);

}  // namespace stablefs
