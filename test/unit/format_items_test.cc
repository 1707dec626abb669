// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "format/dirent.h"
#include "format/items.h"

using namespace stablefs;

namespace {

using Bytes = std::vector<std::byte>;
constexpr Interval kInterval = Interval::block_4096;

template <class T>
Bytes bytes_of(const T& object, size_t extra = 0) {
  Bytes bytes(sizeof(T) + extra);
  std::memcpy(bytes.data(), &object, sizeof object);
  return bytes;
}

bool valid(const Key& key, const Bytes& value, Interval interval = kInterval) {
  const Status status = validate_item(key, value, interval);
  if (!status.ok()) CHECK(status.error().code() == ErrorCode::item_invalid);
  CHECK_FALSE(item_to_text(key, value, interval).empty());
  return status.ok();
}

DiskInode file_inode() {
  DiskInode inode{};
  inode.mode = S_IFREG | 0644;
  inode.link_count = 1;
  return inode;
}

DiskInode directory_inode() {
  DiskInode inode{};
  inode.mode = S_IFDIR | 0755;
  inode.link_count = 2;
  inode.parent = 1;
  return inode;
}

bool valid_inode(const DiskInode& inode) {
  return valid(Key(Ino(9), ItemKind::inode, 0), bytes_of(inode));
}

Bytes dirent(const std::string& name, uint64_t ino = 9, uint8_t type = 8) {
  DiskDirent entry;
  entry.ino = ino;
  entry.type = type;
  entry.name_length = static_cast<uint8_t>(name.size());
  Bytes bytes = bytes_of(entry, name.size());
  std::memcpy(bytes.data() + sizeof entry, name.data(), name.size());
  return bytes;
}

Bytes extent(uint64_t lba, uint32_t length, uint32_t flags, size_t tuple_count) {
  DiskExtent disk;
  disk.lba = lba;
  disk.length_blocks = length;
  disk.flags = flags;
  return bytes_of(disk, tuple_count * sizeof(Tuple));
}

const Key kInodeKey(Ino(9), ItemKind::inode, 0);
const Key kExtentKey(Ino(9), ItemKind::extent, 100);

}  // namespace

TEST_CASE("inodes of every type are valid", "[format]") {
  CHECK(valid_inode(file_inode()));
  CHECK(valid_inode(directory_inode()));
  DiskInode inode = file_inode();
  for (uint32_t type : {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK}) {
    inode.mode = type | 0600u;
    CHECK(valid_inode(inode));
  }
  inode.mode = S_IFLNK | 0777;
  inode.size_bytes = 4095;
  CHECK(valid_inode(inode));
  inode = file_inode();
  inode.mode = S_IFCHR | 07777;
  inode.device = (1u << 20) | 3;
  CHECK(valid_inode(inode));
}

TEST_CASE("an inode with one impossible field is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(DiskInode&)> apply;
  };
  const Damage damages[] = {
      {"no type", [](auto& i) { i.mode = 0644; }},
      {"two types", [](auto& i) { i.mode = S_IFMT | 0644; }},
      {"mode bits", [](auto& i) { i.mode = S_IFREG | (1u << 16); }},
      {"parent of a file", [](auto& i) { i.parent = 1; }},
      {"device of a file", [](auto& i) { i.device = 1; }},
      {"directory without parent", [](auto& i) { i.mode = S_IFDIR | 0755; }},
      {"symlink without target", [](auto& i) { i.mode = S_IFLNK | 0777; }},
      {"long symlink",
       [](auto& i) {
         i.mode = S_IFLNK | 0777;
         i.size_bytes = 4096;
       }},
      {"access ns", [](auto& i) { i.access_time.nanoseconds = 1'000'000'000; }},
      {"modify ns", [](auto& i) { i.modify_time.nanoseconds = 1'000'000'000; }},
      {"change ns", [](auto& i) { i.change_time.nanoseconds = 1'000'000'000; }},
      {"birth ns", [](auto& i) { i.birth_time.nanoseconds = ~0u; }},
      {"size", [](auto& i) { i.size_bytes = kMaxFileBytes + 1; }},
      {"block count", [](auto& i) { i.block_count = ~0ull; }},
      {"app tag", [](auto& i) { i.app_tag = 0xFFFF; }},
      {"flags", [](auto& i) { i.flags = 0x8; }},
      {"reserved0", [](auto& i) { i.reserved0 = 1; }},
      {"reserved", [](auto& i) { i.reserved[15] = 1; }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    DiskInode inode = file_inode();
    damage.apply(inode);
    CHECK_FALSE(valid_inode(inode));
  }
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::inode, 1), bytes_of(file_inode())));
  CHECK_FALSE(valid(Key(Ino(0), ItemKind::inode, 0), bytes_of(file_inode())));
  CHECK_FALSE(valid(Key(Ino(1ull << 63), ItemKind::inode, 0), bytes_of(file_inode())));
  CHECK_FALSE(valid(kInodeKey, bytes_of(file_inode(), 1)));
  CHECK_FALSE(valid(kInodeKey, {}));
}

TEST_CASE("a damage item with one impossible field is refused", "[format]") {
  const auto damage_item = [] {
    DiskDamage damage{};
    damage.ino = 7;
    damage.file_block = 3;
    damage.time.seconds = 1'700'000'000;
    damage.expected = 0x1234;
    damage.found = 0x4321;
    damage.kind = static_cast<uint8_t>(DamageKind::guard);
    return damage;
  };
  const Key key = Key::global(ItemKind::damage, 1000);
  CHECK(valid(key, bytes_of(damage_item())));
  CHECK(item_to_text(key, bytes_of(damage_item()), Interval::block_4096) ==
        "0 damage 1000: ino 7 file block 3 guard expected 1234 found 4321 time "
        "1700000000.000000000");
  DiskDamage unreadable = damage_item();
  unreadable.kind = static_cast<uint8_t>(DamageKind::read_error);
  unreadable.expected = unreadable.found = 0;
  CHECK(valid(key, bytes_of(unreadable)));
  struct Damage {
    const char* name;
    std::function<void(DiskDamage&)> apply;
  };
  const Damage damages[] = {
      {"no inode", [](auto& d) { d.ino = 0; }},
      {"inode number", [](auto& d) { d.ino = 1ull << 63; }},
      {"file block", [](auto& d) { d.file_block = kMaxFileBytes / kBlockSize; }},
      {"nanoseconds", [](auto& d) { d.time.nanoseconds = 1'000'000'000; }},
      {"no kind", [](auto& d) { d.kind = 0; }},
      {"kind", [](auto& d) { d.kind = 5; }},
      {"tags of a read error",
       [](auto& d) { d.kind = static_cast<uint8_t>(DamageKind::read_error); }},
      {"flag", [](auto& d) { d.passed_on = 2; }},
      {"reserved", [](auto& d) { d.reserved[1] = 1; }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    DiskDamage item = damage_item();
    damage.apply(item);
    CHECK_FALSE(valid(key, bytes_of(item)));
  }
  CHECK_FALSE(valid(Key::global(ItemKind::damage, 0), bytes_of(damage_item())));
  CHECK_FALSE(valid(Key::global(ItemKind::damage, 1ull << 51), bytes_of(damage_item())));
  CHECK_FALSE(valid(Key(Ino(7), ItemKind::damage, 1000), bytes_of(damage_item())));
  CHECK_FALSE(valid(key, bytes_of(damage_item(), 1)));
  CHECK_FALSE(valid(key, {}));
}

TEST_CASE("names of entries obey POSIX", "[format]") {
  const Key key(Ino(1), ItemKind::dirent, 256);
  CHECK(valid(key, dirent("a")));
  CHECK(valid(key, dirent("...")));
  CHECK(valid(key, dirent(std::string(255, 'x'))));
  CHECK(valid(key, dirent("\xff\xfe\n")));
  CHECK_FALSE(valid(key, dirent("")));
  CHECK_FALSE(valid(key, dirent(".")));
  CHECK_FALSE(valid(key, dirent("..")));
  CHECK_FALSE(valid(key, dirent("a/b")));
  CHECK_FALSE(valid(key, dirent(std::string("a\0b", 3))));
  CHECK_FALSE(valid(key, dirent(std::string(256, 'x'))));
  CHECK_FALSE(valid(key, dirent("a", 0)));
  CHECK_FALSE(valid(key, dirent("a", 9, 0)));
  CHECK_FALSE(valid(key, dirent("a", 9, 14)));
  Bytes wrong_length = dirent("abc");
  wrong_length.pop_back();
  CHECK_FALSE(valid(key, wrong_length));
  CHECK_FALSE(valid(key, Bytes(9)));
}

TEST_CASE("reserved cookies are refused", "[format]") {
  for (uint64_t cookie : {0ull, 1ull, 2ull, 3ull, (1ull << 63) - 1, 1ull << 63, ~0ull}) {
    CHECK_FALSE(valid(Key(Ino(1), ItemKind::dirent, cookie), dirent("a")));
  }
  CHECK(valid(Key(Ino(1), ItemKind::dirent, (1ull << 63) - 2), dirent("a")));
}

TEST_CASE("extents have sane ranges and exactly their tuples", "[format]") {
  CHECK(valid(kExtentKey, extent(5, 9, 0, 0)));
  CHECK(valid(kExtentKey, extent(5, kMaxExtentBlocks, kExtentUnwritten, 0)));
  CHECK(valid(kExtentKey, extent(5, 8, kExtentTuplesInline, 8)));
  CHECK(valid(kExtentKey, extent(5, 8, kExtentTuplesInline, 64), Interval::sector_512));
  CHECK_FALSE(valid(kExtentKey, extent(5, 8, kExtentTuplesInline, 8), Interval::sector_512));
  CHECK_FALSE(valid(kExtentKey, extent(5, 8, kExtentTuplesInline, 7)));
  CHECK_FALSE(valid(kExtentKey, extent(5, 8, 0, 8)));
  CHECK_FALSE(valid(kExtentKey, extent(5, 9, kExtentTuplesInline, 9)));
  CHECK_FALSE(valid(kExtentKey, extent(5, 1, kExtentTuplesInline | kExtentUnwritten, 1)));
  CHECK_FALSE(valid(kExtentKey, extent(5, 0, 0, 0)));
  CHECK_FALSE(valid(kExtentKey, extent(5, kMaxExtentBlocks + 1, 0, 0)));
  CHECK_FALSE(valid(kExtentKey, extent(0, 1, 0, 0)));
  CHECK_FALSE(valid(kExtentKey, extent(~0ull, 1, 0, 0)));
  CHECK_FALSE(valid(kExtentKey, extent(5, 1, 4, 0)));
  CHECK_FALSE(valid(kExtentKey, Bytes(15)));
  constexpr uint64_t last = kMaxFileBytes / kBlockSize - 1;
  CHECK(valid(Key(Ino(9), ItemKind::extent, last), extent(5, 1, 0, 0)));
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::extent, last), extent(5, 2, 0, 0)));
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::extent, ~0ull), extent(5, 1, 0, 0)));
}

TEST_CASE("tuples items hold whole blocks' tuples up to the limit", "[format]") {
  const Key key = Key::global(ItemKind::tuples, 500);
  CHECK(valid(key, Bytes(8)));
  CHECK(valid(key, Bytes(512)));
  CHECK(valid(key, Bytes(64), Interval::sector_512));
  CHECK_FALSE(valid(key, Bytes(8), Interval::sector_512));
  CHECK_FALSE(valid(key, Bytes(520)));
  CHECK_FALSE(valid(key, Bytes(12)));
  CHECK_FALSE(valid(key, {}));
  CHECK_FALSE(valid(Key::global(ItemKind::tuples, 0), Bytes(8)));
  CHECK_FALSE(valid(Key(Ino(5), ItemKind::tuples, 500), Bytes(8)));
}

TEST_CASE("orphans, references and chunks are checked", "[format]") {
  DiskOrphan orphan{};
  orphan.intent = 1;
  const Key orphan_key = Key::global(ItemKind::orphan, 12);
  CHECK(valid(orphan_key, bytes_of(orphan)));
  orphan.start_block = 5;
  CHECK_FALSE(valid(orphan_key, bytes_of(orphan)));
  orphan.intent = 2;
  CHECK(valid(orphan_key, bytes_of(orphan)));
  orphan.intent = 3;
  CHECK_FALSE(valid(orphan_key, bytes_of(orphan)));
  orphan.intent = 2;
  orphan.reserved[6] = 1;
  CHECK_FALSE(valid(orphan_key, bytes_of(orphan)));

  DiskReference reference;
  reference.length_blocks = 10;
  reference.count = 2;
  const Key reference_key = Key::global(ItemKind::reference, 12);
  CHECK(valid(reference_key, bytes_of(reference)));
  reference.count = 1;
  CHECK_FALSE(valid(reference_key, bytes_of(reference)));
  reference.count = 2;
  reference.length_blocks = 0;
  CHECK_FALSE(valid(reference_key, bytes_of(reference)));

  CHECK(valid(Key(Ino(9), ItemKind::inline_data, 4000), Bytes(95)));
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::inline_data, 500), Bytes(95)));
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::inline_data, 5000), Bytes(95)));
  CHECK_FALSE(valid(Key(Ino(9), ItemKind::inline_data, 0), {}));
}

TEST_CASE("kinds that are unknown or not in use are refused", "[format]") {
  for (int kind : {0, 6, 7, 15, 19, 20, 255}) {
    CHECK_FALSE(valid(Key(0, static_cast<uint8_t>(kind), 1), Bytes(16)));
    CHECK_FALSE(valid(Key(9, static_cast<uint8_t>(kind), 1), Bytes(16)));
  }
}

TEST_CASE("text of items shows what is in them", "[format]") {
  CHECK(key_to_text(Key(Ino(9), ItemKind::dirent, 5)) == "9 dirent 5");
  CHECK(key_to_text(Key(9, 77, 5)) == "9 kind_77 5");
  const std::string name =
      item_to_text(Key(Ino(1), ItemKind::dirent, 256), dirent("a\nb"), kInterval);
  CHECK(name == "1 dirent 256: ino 9 type 8 name \"a\\x0ab\"");
  CHECK(item_to_text(kExtentKey, extent(5, 9, kExtentUnwritten, 0), kInterval) ==
        "9 extent 100: lba 5 blocks 9 unwritten");
  CHECK(item_to_text(kExtentKey, Bytes(2), kInterval) == "9 extent 100: INVALID, bytes 00 00");
}

TEST_CASE("random items never crash validation or text", "[format]") {
  Prng prng(14);
  for (int round = 0; round < 50000; ++round) {
    Bytes value(prng.chance(2) ? prng.below(30) : prng.below(1100));
    for (std::byte& b : value) b = static_cast<std::byte>(prng.chance(2) ? 0 : prng.next());
    const Key key(prng.below(3), static_cast<uint8_t>(prng.below(22)),
                  prng.chance(2) ? prng.below(10) : prng.next());
    (void)valid(key, value, prng.chance(2) ? Interval::sector_512 : kInterval);
  }
}
