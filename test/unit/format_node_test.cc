// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <vector>

#include "base/prng.h"
#include "format/node.h"
#include "integrity/tuple.h"

using namespace stablefs;

namespace {

using Image = std::vector<std::byte>;

DiskNodeHeader& header(Image& image) {
  return *reinterpret_cast<DiskNodeHeader*>(image.data());
}
DiskSlot* slots(Image& image) {
  return reinterpret_cast<DiskSlot*>(image.data() + sizeof(DiskNodeHeader));
}
DiskChild* children(Image& image) {
  return reinterpret_cast<DiskChild*>(image.data() + sizeof(DiskNodeHeader));
}

NodeAddress address_at(uint64_t lba, uint64_t generation) {
  NodeAddress address;
  address.lba[0] = Lba(lba);
  address.generation = Generation(generation);
  return address;
}

// Ten items with values of 0, 10, 20 ... bytes.
Image good_leaf() {
  Image image(kBlockSize);
  header(image).magic = kNodeMagic;
  uint16_t heap = kBlockSize;
  for (uint16_t i = 0; i < 10; ++i) {
    heap = static_cast<uint16_t>(heap - i * 10);
    slots(image)[i].object = 1;
    slots(image)[i].kind = 2;
    slots(image)[i].offset = i * 100;
    slots(image)[i].value_offset = heap;
    slots(image)[i].value_length = static_cast<uint16_t>(i * 10);
  }
  header(image).count = 10;
  header(image).heap_start = heap;
  return image;
}

Image good_inner(uint16_t count) {
  Image image(kBlockSize);
  header(image).magic = kNodeMagic;
  header(image).level = 1;
  header(image).count = count;
  for (uint16_t i = 0; i < count; ++i) {
    children(image)[i].key = to_disk(Key(i, 1, 0));
    children(image)[i].pointer = to_disk(address_at(1000 + i, 3));
  }
  return image;
}

NodeAddress sealed(Image& image) {
  NodeAddress address = address_at(77, 5);
  address.checksum = seal_node(image, address);
  return address;
}

ErrorCode structure_error(const Image& image) {
  const Status status = validate_node_structure(image);
  REQUIRE_FALSE(status.ok());
  return status.error().code();
}

}  // namespace

TEST_CASE("a sealed node is valid at its own address only", "[format]") {
  for (Image image : {good_leaf(), good_inner(1), good_inner(kMaxChildren)}) {
    const uint32_t level = header(image).level;
    const NodeAddress address = sealed(image);
    CHECK(validate_node(image, address, level).ok());
    CHECK(validate_node(image, address, level + 1).error().code() == ErrorCode::node_identity);
    NodeAddress other = address;
    other.lba[0] = Lba(78);
    CHECK(validate_node(image, other, level).error().code() == ErrorCode::node_identity);
    other = address;
    other.generation = Generation(6);
    CHECK(validate_node(image, other, level).error().code() == ErrorCode::node_identity);
    other = address;
    other.checksum ^= 1;
    CHECK(validate_node(image, other, level).error().code() == ErrorCode::node_checksum);
  }
}

TEST_CASE("an empty leaf is valid and an empty inner node is not", "[format]") {
  Image leaf(kBlockSize);
  header(leaf).magic = kNodeMagic;
  header(leaf).heap_start = kBlockSize;
  CHECK(validate_node_structure(leaf).ok());
  CHECK(structure_error(good_inner(0)) == ErrorCode::node_fields);
}

TEST_CASE("every flipped bit of a node is noticed", "[format]") {
  Image image = good_leaf();
  const NodeAddress address = sealed(image);
  for (size_t bit = 0; bit < image.size() * 8; ++bit) {
    image[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    REQUIRE_FALSE(validate_node(image, address, 0).ok());
    image[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

TEST_CASE("a leaf with one impossible field is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(Image&)> apply;
    ErrorCode expected = ErrorCode::node_fields;
  };
  const Damage damages[] = {
      {"magic", [](Image& i) { header(i).magic = 1; }, ErrorCode::node_magic},
      {"level", [](Image& i) { header(i).level = 16; }},
      {"reserved0", [](Image& i) { header(i).reserved0 = 1; }},
      {"reserved", [](Image& i) { header(i).reserved[23] = 1; }},
      {"count", [](Image& i) { header(i).count = 0xFFFF; }},
      {"heap start low", [](Image& i) { header(i).heap_start = 70; }},
      {"heap start high", [](Image& i) { header(i).heap_start = 4097; }},
      {"garbage", [](Image& i) { header(i).heap_garbage = 1; }},
      {"slot reserved", [](Image& i) { slots(i)[4].reserved[2] = 1; }},
      {"long value", [](Image& i) { slots(i)[4].value_length = 1001; }},
      {"value beyond the end", [](Image& i) { slots(i)[4].value_offset = 4090; }},
      {"value far away", [](Image& i) { slots(i)[4].value_offset = 0xFFFF; }},
      {"value in the slots", [](Image& i) { slots(i)[4].value_offset = 64; }},
      {"overlap", [](Image& i) { slots(i)[4].value_offset = slots(i)[4].value_offset - 1; }},
      {"missing bytes", [](Image& i) { slots(i)[4].value_length = 3; }},
      {"same key", [](Image& i) { slots(i)[4].offset = uint64_t{slots(i)[3].offset}; },
       ErrorCode::node_order},
      {"order", [](Image& i) { slots(i)[4].object = 0; }, ErrorCode::node_order},
      {"order by kind", [](Image& i) { slots(i)[4].kind = 1; }, ErrorCode::node_order},
  };
  CHECK(validate_node_structure(good_leaf()).ok());
  for (const Damage& damage : damages) {
    INFO(damage.name);
    Image image = good_leaf();
    damage.apply(image);
    CHECK(structure_error(image) == damage.expected);
  }
}

TEST_CASE("an inner node with one impossible field is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(Image&)> apply;
    ErrorCode expected = ErrorCode::node_fields;
  };
  const Damage damages[] = {
      {"count", [](Image& i) { header(i).count = kMaxChildren + 1; }},
      {"heap start", [](Image& i) { header(i).heap_start = 1; }},
      {"garbage", [](Image& i) { header(i).heap_garbage = 1; }},
      {"key reserved", [](Image& i) { children(i)[3].key.reserved[6] = 1; }},
      {"pointer reserved", [](Image& i) { children(i)[3].pointer.reserved = 1; }},
      {"no address", [](Image& i) { children(i)[3].pointer.lba[0] = 0; }},
      {"copies at one place", [](Image& i) { children(i)[3].pointer.lba[1] = 1003; }},
      {"no generation", [](Image& i) { children(i)[3].pointer.generation = 0; }},
      {"order", [](Image& i) { children(i)[3].key.object = 2; }, ErrorCode::node_order},
  };
  CHECK(validate_node_structure(good_inner(10)).ok());
  for (const Damage& damage : damages) {
    INFO(damage.name);
    Image image = good_inner(10);
    damage.apply(image);
    CHECK(structure_error(image) == damage.expected);
  }
}

TEST_CASE("a child newer than its parent or with other copies is refused", "[format]") {
  Image image = good_inner(4);
  children(image)[2].pointer.generation = 6;
  CHECK(validate_node(image, sealed(image), 1).error().code() == ErrorCode::node_fields);
  image = good_inner(4);
  children(image)[2].pointer.lba[1] = 5000;
  CHECK(validate_node(image, sealed(image), 1).error().code() == ErrorCode::node_fields);
}

TEST_CASE("random node images never crash validation", "[format]") {
  Prng prng(12);
  for (int round = 0; round < 20000; ++round) {
    Image image = round % 2 == 0 ? good_leaf() : good_inner(10);
    const uint64_t changes = 1 + prng.below(20);
    for (uint64_t i = 0; i < changes; ++i) {
      image[prng.below(400)] = static_cast<std::byte>(prng.next());
    }
    header(image).magic = kNodeMagic;
    const uint32_t level = header(image).level;
    (void)validate_node(image, sealed(image), level);
  }
  CHECK_FALSE(validate_node_structure(Image(100)).ok());
  CHECK_FALSE(validate_node(Image{}, address_at(1, 1), 0).ok());
}

TEST_CASE("node addresses survive the trip to disk", "[format]") {
  NodeAddress address = address_at(123456789, 42);
  address.lba[1] = Lba(987654321);
  address.checksum = 0xDEADBEEF;
  CHECK(from_disk(to_disk(address)) == address);
  const Key key(1, 2, 3);
  CHECK(from_disk(to_disk(key)) == key);
}
