// SPDX-License-Identifier: GPL-2.0-or-later
// Validation of each kind of item on its own; what items owe each other is the checker's business.
#include "format/items.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "format/bytes.h"
#include "format/ondisk.h"
#include "format/xattr.h"

namespace stablefs {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint64_t kMaxNumber = 1ull << 63;  // inode numbers stay below
constexpr uint64_t kMaxBlock = 1ull << 51;   // device and file blocks stay below
constexpr uint64_t kFirstCookie = 4;         // 0 to 3 are taken by readdir
constexpr uint64_t kLastCookie = (1ull << 63) - 2;
constexpr uint64_t kFileBlocksMax = kMaxFileBytes / kBlockSize;
constexpr uint32_t kNanosecondsPerSecond = 1'000'000'000;

using Verdict = const char*;  // what is wrong; nullptr: nothing
constexpr Verdict kGood = nullptr;

template <class T>
std::optional<T> load(Bytes value) {
  if (value.size() < sizeof(T)) return std::nullopt;
  T object;
  std::memcpy(&object, value.data(), sizeof object);
  return object;
}

bool valid_object(uint64_t object) {
  return object != kGlobalObject && object < kMaxNumber;
}

Verdict check_mode(const DiskInode& inode) {
  if (inode.mode > 0177777) return "mode";
  switch (inode.mode & S_IFMT) {
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
      return inode.parent == 0 && inode.device == 0 ? kGood : "parent or device of a file";
    case S_IFDIR:
      if (inode.device != 0) return "device of a directory";
      return valid_object(inode.parent) ? kGood : "parent of a directory";
    case S_IFLNK:
      if (inode.size_bytes == 0 || inode.size_bytes > kMaxSymlinkBytes)
        return "length of a symlink";
      return inode.parent == 0 && inode.device == 0 ? kGood : "parent or device of a symlink";
    case S_IFCHR:
    case S_IFBLK:
      return inode.parent == 0 ? kGood : "parent of a device node";
    default:
      return "type in the mode";
  }
}

Verdict check_inode(const Key& key, Bytes value) {
  if (key.offset != 0) return "key offset of an inode";
  if (value.size() != sizeof(DiskInode)) return "length of an inode";
  const DiskInode inode = *load<DiskInode>(value);
  if (Verdict wrong = check_mode(inode)) return wrong;
  for (const DiskTime* time :
       {&inode.access_time, &inode.modify_time, &inode.change_time, &inode.birth_time}) {
    if (time->nanoseconds >= kNanosecondsPerSecond) return "nanoseconds";
  }
  if (inode.size_bytes > kMaxFileBytes) return "size";
  if (inode.block_count > kMaxBlock) return "block count";
  if (inode.app_tag == kEscapeAppTag) return "application tag";
  if ((inode.flags & ~kKnownInodeFlags) != 0) return "flags";
  if (inode.reserved0 != 0 || !all_zero_bytes(inode.reserved)) return "reserved bytes";
  return kGood;
}

bool known_dirent_type(uint8_t type) {
  switch (type) {
    case DT_FIFO:
    case DT_CHR:
    case DT_DIR:
    case DT_BLK:
    case DT_REG:
    case DT_LNK:
    case DT_SOCK:
      return true;
    default:
      return false;
  }
}

std::string_view name_of(Bytes dirent) {
  return {reinterpret_cast<const char*>(dirent.data()) + sizeof(DiskDirent),
          dirent.size() - sizeof(DiskDirent)};
}

Verdict check_dirent(const Key& key, Bytes value) {
  if (key.offset < kFirstCookie || key.offset > kLastCookie) return "cookie of an entry";
  const auto dirent = load<DiskDirent>(value);
  if (!dirent) return "length of an entry";
  if (!valid_object(dirent->ino)) return "inode number of an entry";
  if (!known_dirent_type(dirent->type)) return "type of an entry";
  const std::string_view name = name_of(value);
  if (name.empty() || name.size() > kMaxNameBytes || name.size() != dirent->name_length) {
    return "name length of an entry";
  }
  if (name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) {
    return "name of an entry";
  }
  return kGood;
}

Verdict check_xattr(const Key& key, Bytes value) {
  const uint32_t chunk = chunk_of_xattr(key.offset);
  if (chunk >= kMaxXattrChunks) return "chunk of an extended attribute";
  if (chunk != 0) return value.empty() ? "empty chunk" : kGood;
  const auto header = load<DiskXattr>(value);
  if (!header) return "length of an extended attribute";
  if (!all_zero_bytes(header->reserved)) return "reserved bytes";
  if (header->value_length_bytes > kMaxXattrValueBytes) return "length of an extended attribute";
  const uint64_t whole = xattr_bytes(header->name_length, header->value_length_bytes);
  if (value.size() != std::min<uint64_t>(whole, kMaxValueBytes)) {
    return "length of an extended attribute";
  }
  const std::string_view name = xattr_name(value);
  if (!namespace_of_xattr(name) || name.find('\0') != name.npos) {
    return "name of an extended attribute";
  }
  return kGood;
}

Verdict check_inline_data(const Key& key, Bytes value) {
  if (key.offset % kMaxValueBytes != 0 || key.offset >= kMaxSymlinkBytes) return "chunk offset";
  return value.empty() ? "empty chunk" : kGood;
}

Verdict check_extent(const Key& key, Bytes value, Interval interval) {
  const auto extent = load<DiskExtent>(value);
  if (!extent) return "length of an extent item";
  const uint32_t length = extent->length_blocks;
  if (length == 0 || length > kMaxExtentBlocks) return "length of an extent";
  if (key.offset >= kFileBlocksMax || length > kFileBlocksMax - key.offset) {
    return "an extent beyond the largest file";
  }
  if (extent->lba == 0 || extent->lba >= kMaxBlock) return "address of an extent";
  if ((extent->flags & ~kKnownExtentFlags) != 0) return "flags of an extent";
  uint64_t tuple_bytes = 0;
  if ((extent->flags & kExtentTuplesInline) != 0) {
    if ((extent->flags & kExtentUnwritten) != 0) return "tuples of an unwritten extent";
    if (length > kMaxInlineTupleBlocks) return "too many inline tuples";
    tuple_bytes = uint64_t{tuples_per_block(interval)} * length * sizeof(Tuple);
  }
  return value.size() == sizeof(DiskExtent) + tuple_bytes ? kGood : "length of an extent item";
}

Verdict check_orphan(const Key& key, Bytes value) {
  if (!valid_object(key.offset)) return "inode number of an orphan";
  if (value.size() != sizeof(DiskOrphan)) return "length of an orphan item";
  const DiskOrphan orphan = *load<DiskOrphan>(value);
  if (!all_zero_bytes(orphan.reserved)) return "reserved bytes";
  switch (static_cast<OrphanIntent>(orphan.intent)) {
    case OrphanIntent::remove:
      return orphan.start_block == 0 ? kGood : "start block of a removal";
    case OrphanIntent::truncate:
      return orphan.start_block <= kFileBlocksMax ? kGood : "start block of a truncation";
  }
  return "intent of an orphan";
}

Verdict check_tuples(const Key& key, Bytes value, Interval interval) {
  if (key.offset == 0 || key.offset >= kMaxBlock) return "address of tuples";
  const size_t block_bytes = tuples_per_block(interval) * sizeof(Tuple);
  if (value.empty() || value.size() % block_bytes != 0 ||
      value.size() > kMaxTuplesPerItem * sizeof(Tuple)) {
    return "length of a tuples item";
  }
  return kGood;
}

Verdict check_reference(const Key& key, Bytes value) {
  if (value.size() != sizeof(DiskReference)) return "length of a reference item";
  const DiskReference reference = *load<DiskReference>(value);
  if (key.offset == 0 || key.offset >= kMaxBlock) return "address of a reference";
  if (reference.length_blocks == 0) return "length of a reference";
  return reference.count >= 2 ? kGood : "count of a reference";
}

Verdict check_damage(const Key& key, Bytes value) {
  if (value.size() != sizeof(DiskDamage)) return "length of a damage item";
  const DiskDamage damage = *load<DiskDamage>(value);
  if (key.offset == 0 || key.offset >= kMaxBlock) return "address of damage";
  if (!valid_object(damage.ino)) return "inode number of damage";
  if (damage.file_block >= kFileBlocksMax) return "file block of damage";
  if (damage.time.nanoseconds >= kNanosecondsPerSecond) return "nanoseconds";
  if (damage.passed_on > 1) return "flag of damage";
  if (!all_zero_bytes(damage.reserved)) return "reserved bytes";
  switch (static_cast<DamageKind>(damage.kind)) {
    case DamageKind::guard:
    case DamageKind::app_tag:
    case DamageKind::reference_tag:
      return kGood;
    case DamageKind::read_error:
      return damage.expected == 0 && damage.found == 0 ? kGood : "tags of a read error";
  }
  return "kind of damage";
}

Verdict check_kind(const Key& key, Bytes value, Interval interval) {
  switch (static_cast<ItemKind>(key.kind)) {
    case ItemKind::inode:
      return check_inode(key, value);
    case ItemKind::dirent:
      return check_dirent(key, value);
    case ItemKind::xattr:
      return check_xattr(key, value);
    case ItemKind::inline_data:
      return check_inline_data(key, value);
    case ItemKind::extent:
      return check_extent(key, value, interval);
    case ItemKind::orphan:
      return check_orphan(key, value);
    case ItemKind::tuples:
      return check_tuples(key, value, interval);
    case ItemKind::reference:
      return check_reference(key, value);
    case ItemKind::damage:
      return check_damage(key, value);
    case ItemKind::delta:
      return "kind is not in use in this version";
  }
  return "unknown kind";
}

bool global_kind(uint8_t kind) {
  return kind >= static_cast<uint8_t>(ItemKind::orphan);
}

const char* kind_name(uint8_t kind) {
  switch (static_cast<ItemKind>(kind)) {
    case ItemKind::inode:
      return "inode";
    case ItemKind::dirent:
      return "dirent";
    case ItemKind::xattr:
      return "xattr";
    case ItemKind::inline_data:
      return "inline_data";
    case ItemKind::extent:
      return "extent";
    case ItemKind::delta:
      return "delta";
    case ItemKind::orphan:
      return "orphan";
    case ItemKind::tuples:
      return "tuples";
    case ItemKind::reference:
      return "reference";
    case ItemKind::damage:
      return "damage";
  }
  return nullptr;
}

std::string time_text(const DiskTime& time) {
  return fmt::format("{}.{:09}", static_cast<int64_t>(uint64_t{time.seconds}),
                     uint32_t{time.nanoseconds});
}

std::string tuples_text(Bytes bytes) {
  std::string text;
  for (size_t at = 0; at + sizeof(Tuple) <= bytes.size(); at += sizeof(Tuple)) {
    const Tuple tuple = *load<Tuple>(bytes.subspan(at));
    text += fmt::format(" {:04x}:{:04x}:{:08x}", uint16_t{tuple.guard}, uint16_t{tuple.app_tag},
                        uint32_t{tuple.reference_tag});
  }
  return text;
}

std::string inode_text(Bytes value) {
  const DiskInode inode = *load<DiskInode>(value);
  return fmt::format(
      "mode {:o} uid {} gid {} links {} size {} blocks {} atime {} mtime {} ctime {} btime {} "
      "device {:x} generation {} parent {} flags {:x} app_tag {:04x}",
      uint32_t{inode.mode}, uint32_t{inode.uid}, uint32_t{inode.gid}, uint32_t{inode.link_count},
      uint64_t{inode.size_bytes}, uint64_t{inode.block_count}, time_text(inode.access_time),
      time_text(inode.modify_time), time_text(inode.change_time), time_text(inode.birth_time),
      uint32_t{inode.device}, uint32_t{inode.generation}, uint64_t{inode.parent},
      uint32_t{inode.flags}, uint16_t{inode.app_tag});
}

std::string extent_text(Bytes value) {
  const DiskExtent extent = *load<DiskExtent>(value);
  std::string text =
      fmt::format("lba {} blocks {}{}", uint64_t{extent.lba}, uint32_t{extent.length_blocks},
                  (extent.flags & kExtentUnwritten) != 0 ? " unwritten" : "");
  if ((extent.flags & kExtentTuplesInline) != 0) {
    text += " tuples" + tuples_text(value.subspan(sizeof(DiskExtent)));
  }
  return text;
}

std::string damage_text(Bytes value) {
  const DiskDamage damage = *load<DiskDamage>(value);
  return fmt::format("ino {} file block {} {} expected {:x} found {:x} time {}{}",
                     uint64_t{damage.ino}, uint64_t{damage.file_block},
                     to_string(static_cast<DamageKind>(damage.kind)), uint32_t{damage.expected},
                     uint32_t{damage.found}, time_text(damage.time),
                     damage.passed_on != 0 ? " passed on" : "");
}

std::string text_of_bytes(Bytes bytes) {
  const std::string_view raw(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return "\"" + escape_text(raw) + "\"";
}

std::string xattr_text(const Key& key, Bytes value) {
  if (chunk_of_xattr(key.offset) != 0) return text_of_bytes(value);
  const DiskXattr header = *load<DiskXattr>(value);
  return fmt::format("name \"{}\" value of {} bytes {}", escape_text(xattr_name(value)),
                     uint32_t{header.value_length_bytes},
                     text_of_bytes(value.subspan(sizeof header + header.name_length)));
}

std::string value_text(const Key& key, Bytes value) {
  switch (static_cast<ItemKind>(key.kind)) {
    case ItemKind::inode:
      return inode_text(value);
    case ItemKind::dirent: {
      const DiskDirent dirent = *load<DiskDirent>(value);
      return fmt::format("ino {} type {} name \"{}\"", uint64_t{dirent.ino}, dirent.type,
                         escape_text(name_of(value)));
    }
    case ItemKind::xattr:
      return xattr_text(key, value);
    case ItemKind::inline_data:
      return text_of_bytes(value);
    case ItemKind::extent:
      return extent_text(value);
    case ItemKind::tuples:
      return fmt::format("count {}", value.size() / sizeof(Tuple)) + tuples_text(value);
    case ItemKind::orphan: {
      const DiskOrphan orphan = *load<DiskOrphan>(value);
      const bool remove = orphan.intent == static_cast<uint8_t>(OrphanIntent::remove);
      return remove ? "remove" : fmt::format("truncate from {}", uint64_t{orphan.start_block});
    }
    case ItemKind::reference: {
      const DiskReference reference = *load<DiskReference>(value);
      return fmt::format("blocks {} count {}", uint32_t{reference.length_blocks},
                         uint32_t{reference.count});
    }
    case ItemKind::damage:
      return damage_text(value);
    case ItemKind::delta:
      break;
  }
  return "";
}

}  // namespace

Status validate_item(const Key& key, Bytes value, Interval interval) {
  Verdict wrong = kGood;
  if (value.size() > kMaxValueBytes) {
    wrong = "value is too long";
  } else if (global_kind(key.kind) ? key.object != kGlobalObject : !valid_object(key.object)) {
    wrong = "object of this kind";
  } else {
    wrong = check_kind(key, value, interval);
  }
  if (wrong == kGood) return {};
  return Error(ErrorCode::item_invalid, key_to_text(key) + ": " + wrong);
}

const char* to_string(DamageKind kind) {
  switch (kind) {
    case DamageKind::guard:
      return "guard";
    case DamageKind::app_tag:
      return "app_tag";
    case DamageKind::reference_tag:
      return "reference_tag";
    case DamageKind::read_error:
      return "read_error";
  }
  return "?";
}

std::string key_to_text(const Key& key) {
  const char* name = kind_name(key.kind);
  const std::string kind = name != nullptr ? name : fmt::format("kind_{}", key.kind);
  return fmt::format("{} {} {}", key.object, kind, key.offset);
}

std::string item_to_text(const Key& key, Bytes value, Interval interval) {
  const Status status = validate_item(key, value, interval);
  if (status.ok()) return key_to_text(key) + ": " + value_text(key, value);
  std::string text = key_to_text(key) + ": INVALID, bytes";
  for (std::byte b : value) text += fmt::format(" {:02x}", static_cast<unsigned>(b));
  return text;
}

}  // namespace stablefs
