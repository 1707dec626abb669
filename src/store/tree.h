// SPDX-License-Identifier: GPL-2.0-or-later
// The B+tree in memory, copy-on-write by generation. Passive: no locks, no I/O, no threads; the
// store calls it under its tree lock and faults in the nodes it names as missing.
//
// Invariants
// - A node object is `dirty` (changed since the last freeze, generation == tree's), `frozen` (dirty
//   when the checkpoint in progress froze the tree; immutable, has an address) or clean (has an
//   address; its body may be absent).
// - Address, and the children of a frozen or clean inner node, never change: whoever modifies a
//   clean or frozen node gets a new object (own()), taking over the body of a clean one.
// - Inner nodes, once loaded, stay loaded; clean leaves may be evicted.
// - The first child's key of an inner node is a lower bound for its subtree.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "device/block_device.h"
#include "format/key.h"
#include "format/node.h"
#include "store/leaf.h"

namespace stablefs {

struct Node;
using NodeRef = std::shared_ptr<Node>;

struct Child {
  Key key;
  NodeRef node;
};

enum class NodeState : uint8_t { clean, dirty, frozen };

struct Node {
  Node(uint32_t node_level, Generation node_generation, std::atomic<uint64_t>* counter)
      : level(node_level), generation(node_generation), loaded_leaves(counter) {}
  ~Node() { drop_body(); }
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  bool loaded() const { return level == 0 ? image.size() != 0 : !children.empty(); }
  Leaf leaf() { return Leaf(image.data()); }
  void set_image(AlignedBuffer buffer);
  void drop_body();

  const uint32_t level;
  const Generation generation;
  NodeState state = NodeState::dirty;
  std::atomic<bool> recently_used{true};
  Lba lba[2];                   // assigned at freeze, 0 before
  uint32_t checksum = 0;        // set by the checkpoint when it seals the image
  AlignedBuffer image;          // leaf
  std::vector<Child> children;  // inner node
  std::atomic<uint64_t>* const loaded_leaves;

  NodeAddress address() const { return {{lba[0], lba[1]}, generation, checksum}; }
};

class Tree {
 public:
  // An empty tree (one empty leaf), dirty in `generation`.
  explicit Tree(Generation generation);
  // The tree a checkpoint describes; nothing loaded.
  Tree(Generation generation, const NodeAddress& root, uint32_t root_level);

  // --- reading (shared lock). Each returns the node to load first, or null when done.
  NodeRef get(const Key& key, std::optional<std::vector<std::byte>>& out);
  // Items of one leaf from `first` to `last`; `next` is where to go on (nothing: finished).
  template <class Visit>
  NodeRef scan_leaf(const Key& first, const Key& last, std::optional<Key>& next, Visit visit);
  NodeRef floor(const Key& at, const Key& first, bool& found, Key& key,
                std::vector<std::byte>& value);
  NodeRef find_missing(const Key& key);
  // The same before a transaction that erases `key` among `erases` items: when they may be all of
  // the leaf, one of the leaves beside it takes over its keys, and other keys of the transaction.
  NodeRef find_missing_to_erase(const Key& key, uint64_t erases);

  // --- changing (exclusive lock; find_missing was null for all keys of the transaction)
  void put(const Key& key, std::span<const std::byte> value);
  bool erase(const Key& key);  // false: there was no such item

  // Installs the body of a clean node that was read from disk; ignored if it came meanwhile.
  void install(const NodeRef& node, AlignedBuffer image);

  // --- checkpoint
  // Freezes everything dirty and starts the next generation. Returns the frozen nodes, children
  // first; the caller assigns their addresses at once (under the same lock).
  std::vector<NodeRef> freeze();
  void frozen_became_clean(const std::vector<NodeRef>& nodes);
  // Addresses no longer referenced by the live tree since the last call.
  std::vector<Lba> take_replaced() { return std::exchange(replaced_, {}); }
  const std::vector<Lba>& replaced() const { return replaced_; }

  // Drops clean leaf bodies until at most `limit` are loaded; bounded work.
  uint64_t evict(uint64_t limit_leaves, uint64_t max_steps);

  const NodeRef& root() const { return root_; }
  Generation generation() const { return generation_; }
  uint64_t dirty_nodes() const { return dirty_nodes_.load(std::memory_order_relaxed); }
  uint64_t loaded_leaves() const { return loaded_leaves_.load(std::memory_order_relaxed); }

  // Builds the 4 KiB disk image of a frozen node into `out` and sets its checksum. Its dirty
  // children must have been built before. No lock needed.
  static void build_image(Node& node, std::span<std::byte> out);

 private:
  struct Step {
    Node* node;
    uint32_t index;
  };
  static uint32_t child_index(const Node& node, const Key& key, bool strictly_below);
  NodeRef descend(const Key& key, bool strictly_below, std::vector<Step>& path);
  // What is not loaded on the way to the leaf beside the one `path` leads to.
  static NodeRef find_missing_beside(const std::vector<Step>& path, bool left);
  NodeRef new_node(uint32_t level);
  NodeRef own(const NodeRef& node);
  // Owns every node from the root to the leaf of `key`; path[i].node are the owned ones.
  std::vector<Step> own_path(const Key& key);
  void retire(Node& node);
  void insert_item(std::vector<Step>& path, const Key& key, std::span<const std::byte> value);
  void split_leaf(std::vector<Step>& path, const Key& key, std::span<const std::byte> value);
  void insert_child(std::vector<Step>& path, size_t depth, Child child);
  void remove_child(std::vector<Step>& path, size_t depth);
  void try_merge_leaf(std::vector<Step>& path);
  void try_merge_inner(std::vector<Step>& path, size_t depth);
  void collapse_root();
  void collect_dirty(const NodeRef& node, std::vector<NodeRef>& out);

  Generation generation_;
  std::atomic<uint64_t> loaded_leaves_{0};  // before root_: nodes count themselves out
  std::atomic<uint64_t> dirty_nodes_{0};
  std::vector<Lba> replaced_;
  std::deque<std::weak_ptr<Node>> clock_;  // leaves in eviction order
  NodeRef root_;
};

template <class Visit>
NodeRef Tree::scan_leaf(const Key& first, const Key& last, std::optional<Key>& next, Visit visit) {
  std::vector<Step> path;
  if (NodeRef missing = descend(first, false, path)) return missing;
  next.reset();
  for (size_t depth = path.size() - 1; depth-- > 0;) {
    const Node& inner = *path[depth].node;
    if (path[depth].index + 1 < inner.children.size()) {
      next = inner.children[path[depth].index + 1].key;
      break;
    }
  }
  if (next && *next > last) next.reset();
  Leaf leaf = path.back().node->leaf();
  for (uint32_t i = leaf.lower_bound(first); i < leaf.count(); ++i) {
    Key key = leaf.key(i);
    if (key > last) {
      next.reset();
      break;
    }
    if (!visit(key, leaf.value(i))) {
      next = key;  // the caller's limit: go on with this very item
      break;
    }
  }
  return nullptr;
}

}  // namespace stablefs
