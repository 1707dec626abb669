// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "format/items.h"
#include "format/xattr.h"

using namespace stablefs;

namespace {

using Bytes = std::vector<std::byte>;

Bytes whole(const std::string& name, size_t value_bytes) {
  DiskXattr header{};
  header.value_length_bytes = static_cast<uint32_t>(value_bytes);
  header.name_length = static_cast<uint8_t>(name.size());
  Bytes bytes(sizeof header + name.size() + value_bytes, std::byte{'v'});
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, name.data(), name.size());
  return bytes;
}

bool valid(uint32_t chunk, const Bytes& value) {
  const Key key(Ino(9), ItemKind::xattr, xattr_offset(12345, 7, chunk));
  const Status status = validate_item(key, value, Interval::block_4096);
  if (!status.ok()) CHECK(status.error().code() == ErrorCode::item_invalid);
  CHECK_FALSE(item_to_text(key, value, Interval::block_4096).empty());
  return status.ok();
}

Bytes first_chunk(Bytes bytes) {
  if (bytes.size() > kMaxValueBytes) bytes.resize(kMaxValueBytes);
  return bytes;
}

}  // namespace

TEST_CASE("keys of extended attributes give back what they were made of", "[format]") {
  for (const uint64_t hash : {uint64_t{0}, uint64_t{1}, kXattrHashMax}) {
    for (const uint32_t ordinal : {0u, 255u}) {
      const uint64_t offset = xattr_offset(hash, ordinal, 65);
      CHECK(hash_of_xattr(offset) == hash);
      CHECK(ordinal_of_xattr(offset) == ordinal);
      CHECK(chunk_of_xattr(offset) == 65);
    }
  }
  CHECK(xattr_hash(~0ull) == kXattrHashMax);
  CHECK(kMaxXattrChunks == 66);
  CHECK(xattr_chunks(5, kMaxValueBytes - 13) == 1);
  CHECK(xattr_chunks(5, kMaxValueBytes - 12) == 2);
}

TEST_CASE("first chunks of extended attributes of every length are valid", "[format]") {
  for (const size_t value_bytes : {size_t{0}, size_t{1}, size_t{985}, size_t{986}, size_t{987},
                                   size_t{5000}, size_t{kMaxXattrValueBytes}}) {
    CHECK(valid(0, first_chunk(whole("user.x", value_bytes))));
  }
  for (const char* name : {"user.x", "trusted.x", "security.capability", "system.posix_acl_access",
                           "system.posix_acl_default", "user.\xff\xfe name"}) {
    CHECK(valid(0, whole(name, 3)));
  }
  CHECK(valid(0, first_chunk(whole("user." + std::string(250, 'n'), kMaxXattrValueBytes))));
  CHECK(valid(1, Bytes(1)));
  CHECK(valid(65, Bytes(kMaxValueBytes)));
}

TEST_CASE("a chunk of an extended attribute with one thing wrong is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(Bytes&)> apply;
  };
  const Damage damages[] = {
      {"no header", [](Bytes& b) { b.resize(7); }},
      {"nothing", [](Bytes& b) { b.clear(); }},
      {"reserved", [](Bytes& b) { b[7] = std::byte{1}; }},
      {"value too long", [](Bytes& b) { b[2] = std::byte{2}; }},
      {"value longer than the item", [](Bytes& b) { b[0] = std::byte{11}; }},
      {"value shorter than the item", [](Bytes& b) { b[0] = std::byte{9}; }},
      {"name longer than the item", [](Bytes& b) { b[4] = std::byte{200}; }},
      {"no name", [](Bytes& b) { b = whole("", 10); }},
      {"namespace alone", [](Bytes& b) { b = whole("user.", 10); }},
      {"unknown namespace", [](Bytes& b) { b = whole("os2.x", 10); }},
      {"unknown system attribute", [](Bytes& b) { b = whole("system.x", 10); }},
      {"NUL in the name", [](Bytes& b) { b = whole(std::string("user.a\0b", 8), 10); }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    Bytes bytes = whole("user.x", 10);
    REQUIRE(valid(0, bytes));
    damage.apply(bytes);
    CHECK_FALSE(valid(0, bytes));
  }
  CHECK_FALSE(valid(1, {}));
  CHECK_FALSE(valid(65, Bytes(kMaxValueBytes + 1)));
  CHECK_FALSE(valid(66, Bytes(1)));
}

TEST_CASE("text of an extended attribute shows name and value", "[format]") {
  const Key key(Ino(9), ItemKind::xattr, xattr_offset(1, 0, 0));
  CHECK(item_to_text(key, whole("user.x\n", 3), Interval::block_4096) ==
        "9 xattr 65536: name \"user.x\\x0a\" value of 3 bytes \"vvv\"");
}
