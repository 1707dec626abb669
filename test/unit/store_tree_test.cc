// SPDX-License-Identifier: GPL-2.0-or-later
// The tree against std::map, with freezing, disk images and eviction in between.
#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "base/prng.h"
#include "store/tree.h"

using namespace stablefs;

namespace {

using Value = std::vector<std::byte>;
using Model = std::map<Key, Value>;

Value random_value(Prng& prng, size_t max) {
  Value value(prng.below(max + 1));
  for (std::byte& b : value) b = static_cast<std::byte>(prng.next());
  return value;
}

// Keeps node images "on disk" by address and plays the store's part of faulting in.
struct Disk {
  std::map<uint64_t, AlignedBuffer> blocks;
  uint64_t next_lba = 1;

  void checkpoint(Tree& tree) {
    std::vector<NodeRef> nodes = tree.freeze();
    for (const NodeRef& node : nodes) node->lba[0] = Lba(next_lba++);
    for (Lba lba : tree.take_replaced()) REQUIRE(blocks.count(lba.value) <= 1);
    write(nodes);
    tree.frozen_became_clean(nodes);
  }
  void write(const std::vector<NodeRef>& nodes) {
    for (const NodeRef& node : nodes) {
      AlignedBuffer image(kBlockSize);
      Tree::build_image(*node, image.span());
      REQUIRE(validate_node(image.span(), node->address(), node->level).ok());
      blocks[node->lba[0].value] = std::move(image);
    }
  }
  void load(Tree& tree, const NodeRef& node) {
    AlignedBuffer copy(kBlockSize);
    REQUIRE(blocks.count(node->lba[0].value) == 1);
    std::memcpy(copy.data(), blocks[node->lba[0].value].data(), kBlockSize);
    REQUIRE(validate_node(copy.span(), node->address(), node->level).ok());
    tree.install(node, std::move(copy));
  }
  void need(Tree& tree, const Key& key) {
    while (NodeRef missing = tree.find_missing(key)) load(tree, missing);
  }
};

Model read_all(Tree& tree, Disk& disk) {
  Model all;
  std::optional<Key> next = Key::minimum();
  while (next) {
    Key from = *next;
    NodeRef missing = tree.scan_leaf(from, Key::maximum(), next,
                                     [&](const Key& key, std::span<const std::byte> value) {
                                       all[key] = Value(value.begin(), value.end());
                                       return true;
                                     });
    if (missing) {
      disk.load(tree, missing);
      next = from;
    }
  }
  return all;
}

Key random_key(Prng& prng, uint64_t spread) {
  return Key(prng.below(spread), static_cast<uint8_t>(1 + prng.below(3)), prng.below(spread));
}

}  // namespace

TEST_CASE("a tree holds what was put, through splits, merges, freezes and evictions",
          "[store][tree]") {
  const uint64_t seed = GENERATE(1, 2, 3, 4, 5, 6);
  INFO("seed " << seed);
  Prng prng(seed);
  const size_t max_value = seed % 2 ? 1000 : 60;
  const uint64_t spread = seed % 3 ? 400 : 12;
  Tree tree{Generation(1)};
  Disk disk;
  Model model;
  for (int step = 0; step < 20000; ++step) {
    Key key = random_key(prng, spread);
    disk.need(tree, key);
    // Phases of growing and of shrinking, so that merges are reached.
    bool growing = (step / 4000) % 2 == 0;
    if (prng.below(10) < (growing ? 8u : 3u)) {
      Value value = random_value(prng, max_value);
      tree.put(key, value);
      model[key] = value;
    } else {
      REQUIRE(tree.erase(key) == (model.erase(key) == 1));
    }
    if (prng.chance(400)) disk.checkpoint(tree);
    if (prng.chance(200)) tree.evict(4, 50);
  }
  REQUIRE(read_all(tree, disk) == model);
  for (const auto& [key, value] : model) {
    disk.need(tree, key);
    std::optional<Value> found;
    REQUIRE(tree.get(key, found) == nullptr);
    REQUIRE(found == value);
  }
  // Emptied again, it is one leaf.
  for (const auto& [key, value] : Model(model)) {
    disk.need(tree, key);
    REQUIRE(tree.erase(key));
  }
  REQUIRE(read_all(tree, disk).empty());
  REQUIRE(tree.root()->level == 0);
}

TEST_CASE("floor finds the last key at or below, also across leaves", "[store][tree]") {
  Prng prng(7);
  Tree tree{Generation(1)};
  Disk disk;
  Model model;
  for (int i = 0; i < 3000; ++i) {
    Key key(5, 1, prng.below(100000));
    tree.put(key, random_value(prng, 50));
    model[key] = {};
    if (i % 3 == 0 && !model.empty()) {
      auto it = model.lower_bound(Key(5, 1, prng.below(100000)));
      if (it != model.end()) {
        tree.erase(it->first);
        model.erase(it);
      }
    }
  }
  for (int i = 0; i < 5000; ++i) {
    Key at(5, 1, prng.below(100000)), first(5, 1, prng.below(100000));
    bool found = false;
    Key key;
    Value value;
    REQUIRE(tree.floor(at, first, found, key, value) == nullptr);
    auto it = model.upper_bound(at);
    bool expected = it != model.begin() && std::prev(it)->first >= first && first <= at;
    REQUIRE(found == expected);
    if (found) REQUIRE(key == std::prev(it)->first);
  }
}

TEST_CASE("a frozen tree keeps its content while the live one changes", "[store][tree]") {
  Prng prng(11);
  Tree tree{Generation(1)};
  Disk disk;
  for (int i = 0; i < 2000; ++i) tree.put(Key(i, 1, 0), random_value(prng, 80));
  disk.checkpoint(tree);
  Model before = read_all(tree, disk);
  for (int i = 0; i < 500; ++i) {
    Key key(prng.below(2000), 1, 0);
    tree.put(key, random_value(prng, 80));
    before = read_all(tree, disk);
  }
  Model expected = read_all(tree, disk);
  std::vector<NodeRef> frozen = tree.freeze();
  NodeRef root = tree.root();
  for (const NodeRef& node : frozen) node->lba[0] = Lba(disk.next_lba++);
  for (int i = 0; i < 1500; ++i) {  // changes clean, frozen and new nodes
    Key key(prng.below(2500), 1, 0);
    disk.need(tree, key);
    if (prng.chance(3)) {
      tree.erase(key);
    } else {
      tree.put(key, random_value(prng, 80));
    }
  }
  disk.write(frozen);
  tree.frozen_became_clean(frozen);

  Tree reopened(Generation(9), root->address(), root->level);
  REQUIRE(read_all(reopened, disk) == expected);
}

TEST_CASE("appending keys leaves leaves full", "[store][tree]") {
  Tree tree{Generation(1)};
  Value value(76);  // 100 bytes with its slot: 40 a leaf
  for (int i = 0; i < 4000; ++i) tree.put(Key(i, 1, 0), value);
  REQUIRE(tree.dirty_nodes() < 110);
}

// Whoever removes a node leaves its keys to its right neighbour, whose own first child was made for
// higher ones.
TEST_CASE("keys below all that a node was made for find their place in it", "[store][tree]") {
  Tree tree{Generation(1)};
  Disk disk;
  Model model;
  const auto put = [&](uint64_t object, size_t bytes) {
    model[Key(object, 1, 0)] = Value(bytes, static_cast<std::byte>(object));
    tree.put(Key(object, 1, 0), model[Key(object, 1, 0)]);
  };
  // Three a leaf, some 70 leaves to an inner node, several of those below the root.
  for (uint64_t i = 1; i <= 900; ++i) put(1000 * i, 1000);
  REQUIRE(tree.root()->level == 2);
  for (uint64_t i = 1; i <= 300; ++i) {
    REQUIRE(tree.erase(Key(1000 * i, 1, 0)));
    model.erase(Key(1000 * i, 1, 0));
  }
  Prng prng(3);
  for (int i = 0; i < 400; ++i) put(1 + prng.below(300'000), 200);
  disk.checkpoint(tree);
  REQUIRE(read_all(tree, disk) == model);
  for (const auto& [key, value] : Model(model)) REQUIRE(tree.erase(key));
  REQUIRE(tree.root()->level == 0);
}
