// SPDX-License-Identifier: GPL-2.0-or-later
#include "store/tree.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace stablefs {
namespace {

// A leaf or inner node below a quarter is merged with a neighbour when both fill at most three
// quarters: far enough apart that a node does not go back and forth.
constexpr uint32_t kMergeBelow = Leaf::kCapacityBytes / 4;
constexpr uint32_t kMergeUpTo = Leaf::kCapacityBytes * 3 / 4;

}  // namespace

void Node::set_image(AlignedBuffer buffer) {
  FS_ASSERT(level == 0);
  drop_body();
  image = std::move(buffer);
  if (image.size() != 0) loaded_leaves->fetch_add(1, std::memory_order_relaxed);
}

void Node::drop_body() {
  if (image.size() != 0) {
    image = AlignedBuffer();
    loaded_leaves->fetch_sub(1, std::memory_order_relaxed);
  }
}

Tree::Tree(Generation generation) : generation_(generation) {
  root_ = new_node(0);
  root_->leaf().clear();
}

Tree::Tree(Generation generation, const NodeAddress& root, uint32_t root_level)
    : generation_(generation) {
  root_ = std::make_shared<Node>(root_level, root.generation, &loaded_leaves_);
  root_->state = NodeState::clean;
  root_->lba[0] = root.lba[0];
  root_->lba[1] = root.lba[1];
  root_->checksum = root.checksum;
}

// --- walking

uint32_t Tree::child_index(const Node& node, const Key& key, bool strictly_below) {
  auto after = strictly_below
                   ? std::lower_bound(node.children.begin(), node.children.end(), key,
                                      [](const Child& c, const Key& k) { return c.key < k; })
                   : std::upper_bound(node.children.begin(), node.children.end(), key,
                                      [](const Key& k, const Child& c) { return k < c.key; });
  return after == node.children.begin() ? 0
                                        : static_cast<uint32_t>(after - node.children.begin() - 1);
}

NodeRef Tree::descend(const Key& key, bool strictly_below, std::vector<Step>& path) {
  path.clear();
  path.reserve(root_->level + 1);
  const NodeRef* at = &root_;
  while (true) {
    Node& node = **at;
    if (!node.loaded()) return *at;
    if (node.level == 0) {
      if (!node.recently_used.load(std::memory_order_relaxed)) {
        node.recently_used.store(true, std::memory_order_relaxed);
      }
      path.push_back({&node, 0});
      return nullptr;
    }
    uint32_t index = child_index(node, key, strictly_below);
    path.push_back({&node, index});
    at = &node.children[index].node;
  }
}

NodeRef Tree::find_missing(const Key& key) {
  std::vector<Step> path;
  return descend(key, false, path);
}

NodeRef Tree::find_missing_to_erase(const Key& key, uint64_t erases) {
  std::vector<Step> path;
  if (NodeRef missing = descend(key, false, path)) return missing;
  if (path.back().node->leaf().count() > erases) return nullptr;
  if (NodeRef missing = find_missing_beside(path, true)) return missing;
  return find_missing_beside(path, false);
}

NodeRef Tree::find_missing_beside(const std::vector<Step>& path, bool left) {
  for (size_t depth = path.size() - 1; depth-- > 0;) {
    const Step& step = path[depth];
    if (left ? step.index == 0 : step.index + 1 == step.node->children.size()) continue;
    const NodeRef* at = &step.node->children[left ? step.index - 1 : step.index + 1].node;
    while ((*at)->loaded() && (*at)->level != 0) {
      at = left ? &(*at)->children.back().node : &(*at)->children.front().node;
    }
    if (!(*at)->loaded()) return *at;
    (*at)->recently_used.store(true, std::memory_order_relaxed);
    return nullptr;
  }
  return nullptr;
}

NodeRef Tree::get(const Key& key, std::optional<std::vector<std::byte>>& out) {
  std::vector<Step> path;
  if (NodeRef missing = descend(key, false, path)) return missing;
  Leaf leaf = path.back().node->leaf();
  uint32_t index = leaf.lower_bound(key);
  out.reset();
  if (leaf.matches(index, key)) {
    auto value = leaf.value(index);
    out.emplace(value.begin(), value.end());
  }
  return nullptr;
}

NodeRef Tree::floor(const Key& at, const Key& first, bool& found, Key& key,
                    std::vector<std::byte>& value) {
  found = false;
  std::vector<Step> path;
  bool strictly_below = false;
  Key target = at;
  while (true) {
    if (NodeRef missing = descend(target, strictly_below, path)) return missing;
    Leaf leaf = path.back().node->leaf();
    uint32_t index = leaf.lower_bound(at);
    if (!leaf.matches(index, at)) {
      if (index == 0) {
        // Everything in this leaf lies above: go on in the leaf before, whose keys are below the
        // separator that led here.
        const Key* low = nullptr;
        for (size_t depth = path.size() - 1; depth-- > 0;) {
          if (path[depth].index > 0) {
            low = &path[depth].node->children[path[depth].index].key;
            break;
          }
        }
        if (low == nullptr || *low <= first) return nullptr;
        target = *low;
        strictly_below = true;
        continue;
      }
      --index;
    }
    if (leaf.key(index) >= first) {
      found = true;
      key = leaf.key(index);
      auto bytes = leaf.value(index);
      value.assign(bytes.begin(), bytes.end());
    }
    return nullptr;
  }
}

// --- copy-on-write

NodeRef Tree::new_node(uint32_t level) {
  auto node = std::make_shared<Node>(level, generation_, &loaded_leaves_);
  dirty_nodes_.fetch_add(1, std::memory_order_relaxed);
  if (level == 0) {
    node->set_image(AlignedBuffer(kBlockSize));
    clock_.push_back(node);
  }
  return node;
}

void Tree::retire(Node& node) {
  if (node.state == NodeState::dirty) {
    dirty_nodes_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  for (Lba lba : node.lba) {
    if (lba.value != 0) replaced_.push_back(lba);
  }
}

NodeRef Tree::own(const NodeRef& node) {
  if (node->state == NodeState::dirty) return node;
  FS_ASSERT(node->loaded());
  auto fresh = std::make_shared<Node>(node->level, generation_, &loaded_leaves_);
  dirty_nodes_.fetch_add(1, std::memory_order_relaxed);
  if (node->level != 0) {
    // The frozen or clean object keeps its children: the checkpoint may be reading them, and a
    // clean one may still be referred to by a frozen parent.
    fresh->children = node->children;
  } else {
    if (node->state == NodeState::clean) {
      fresh->set_image(std::move(node->image));
      loaded_leaves_.fetch_sub(1, std::memory_order_relaxed);  // moved out of `node`
      node->image = AlignedBuffer();
    } else {
      AlignedBuffer copy(kBlockSize);
      std::memcpy(copy.data(), node->image.data(), kBlockSize);
      fresh->set_image(std::move(copy));
    }
    clock_.push_back(fresh);
  }
  retire(*node);
  return fresh;
}

std::vector<Tree::Step> Tree::own_path(const Key& key) {
  std::vector<Step> path;
  NodeRef* at = &root_;
  while (true) {
    *at = own(*at);
    Node& node = **at;
    if (node.level == 0) {
      path.push_back({&node, 0});
      return path;
    }
    uint32_t index = child_index(node, key, false);
    // The key of a node's first child is a lower bound of the subtree. It may be above `key` where
    // the neighbour was removed to which that belonged; a split would then put its right half
    // behind a child with a higher key.
    if (key < node.children.front().key) node.children.front().key = key;
    path.push_back({&node, index});
    at = &node.children[index].node;
  }
}

// --- put

void Tree::put(const Key& key, std::span<const std::byte> value) {
  std::vector<Step> path = own_path(key);
  Leaf leaf = path.back().node->leaf();
  uint32_t index = leaf.lower_bound(key);
  if (leaf.matches(index, key)) leaf.erase(index);
  insert_item(path, key, value);
}

void Tree::insert_item(std::vector<Step>& path, const Key& key, std::span<const std::byte> value) {
  Leaf leaf = path.back().node->leaf();
  if (leaf.fits(value.size())) {
    leaf.insert(leaf.lower_bound(key), key, value);
  } else {
    split_leaf(path, key, value);
  }
}

void Tree::split_leaf(std::vector<Step>& path, const Key& key, std::span<const std::byte> value) {
  Leaf left = path.back().node->leaf();
  NodeRef right_node = new_node(0);
  Leaf right = right_node->leaf();
  right.clear();

  // Keys that only ever grow (inode numbers, extents of an appended file) leave full leaves behind;
  // anything else is split in the middle of its bytes.
  uint32_t position = left.lower_bound(key);
  uint32_t from = left.count();
  if (position != left.count()) {
    uint32_t half = left.used_bytes() / 2, sum = 0;
    from = 0;
    while (from + 1 < left.count() && sum < half) {
      sum += Leaf::cost_bytes(left.value(from).size());
      ++from;
    }
  }
  left.move_tail(from, right);
  Key separator = right.count() == 0 ? key : right.key(0);
  if (position == from && right.count() != 0 && !left.fits(value.size())) separator = key;
  FS_ASSERT(left.count() != 0);

  bool goes_left = key < separator;
  Leaf target = goes_left ? left : right;
  if (target.fits(value.size())) {
    target.insert(target.lower_bound(key), key, value);
    insert_child(path, path.size() - 1, {separator, right_node});
    return;
  }
  // Values up to kMaxValueBytes are a quarter of a leaf, so a half leaf has room except when large
  // values lie unevenly: then split again on the way down.
  insert_child(path, path.size() - 1, {separator, right_node});
  std::vector<Step> again = own_path(key);
  insert_item(again, key, value);
}

// Puts `child` behind path[depth]'s node among its siblings; splits inner nodes upwards.
void Tree::insert_child(std::vector<Step>& path, size_t depth, Child child) {
  if (depth == 0) {
    NodeRef old_root = root_;
    NodeRef fresh = new_node(old_root->level + 1);
    fresh->children.push_back({Key::minimum(), old_root});
    fresh->children.push_back(std::move(child));
    root_ = fresh;
    return;
  }
  Node& parent = *path[depth - 1].node;
  uint32_t at = path[depth - 1].index + 1;
  parent.children.insert(parent.children.begin() + at, std::move(child));
  if (parent.children.size() <= kMaxChildren) return;

  NodeRef right = new_node(parent.level);
  bool appended = at + 1 == parent.children.size();
  size_t from = appended ? parent.children.size() - 2 : parent.children.size() / 2;
  right->children.assign(std::make_move_iterator(parent.children.begin() + from),
                         std::make_move_iterator(parent.children.end()));
  parent.children.resize(from);
  Key separator = right->children.front().key;
  insert_child(path, depth - 1, {separator, std::move(right)});
}

// --- erase

bool Tree::erase(const Key& key) {
  std::vector<Step> path;
  if (NodeRef missing = descend(key, false, path)) FS_ASSERT(missing == nullptr);
  Leaf before = path.back().node->leaf();
  if (!before.matches(before.lower_bound(key), key)) return false;

  path = own_path(key);
  Leaf leaf = path.back().node->leaf();
  leaf.erase(leaf.lower_bound(key));
  if (leaf.count() == 0 && path.size() > 1) {
    remove_child(path, path.size() - 1);
  } else if (leaf.used_bytes() < kMergeBelow && path.size() > 1) {
    try_merge_leaf(path);
  }
  collapse_root();
  return true;
}

// Takes path[depth]'s node out of its parent; empty parents go too.
void Tree::remove_child(std::vector<Step>& path, size_t depth) {
  retire(*path[depth].node);
  Node& parent = *path[depth - 1].node;
  uint32_t index = path[depth - 1].index;
  Key low = parent.children.front().key;
  parent.children.erase(parent.children.begin() + index);
  if (parent.children.empty()) {
    if (depth - 1 == 0) {
      retire(parent);
      root_ = new_node(0);
      root_->leaf().clear();
    } else {
      remove_child(path, depth - 1);
    }
    return;
  }
  parent.children.front().key = low;  // still a lower bound for what the parent is asked for
  if (depth - 1 > 0) try_merge_inner(path, depth - 1);
}

void Tree::try_merge_leaf(std::vector<Step>& path) {
  size_t depth = path.size() - 1;
  Node& parent = *path[depth - 1].node;
  uint32_t index = path[depth - 1].index;
  // Merge into the left neighbour, or the right one into this leaf; never load one for it.
  uint32_t left_index = index > 0 ? index - 1 : 0;
  if (left_index + 1 >= parent.children.size()) return;
  const NodeRef& left_before = parent.children[left_index].node;
  const NodeRef& right_before = parent.children[left_index + 1].node;
  if (!left_before->loaded() || !right_before->loaded()) return;
  if (left_before->leaf().used_bytes() + right_before->leaf().used_bytes() > kMergeUpTo) return;

  parent.children[left_index].node = own(left_before);
  parent.children[left_index + 1].node = own(right_before);
  Node& left = *parent.children[left_index].node;
  Node& right = *parent.children[left_index + 1].node;
  right.leaf().move_tail(0, left.leaf());
  path[depth - 1].index = left_index + 1;
  path[depth].node = &right;
  remove_child(path, depth);
}

void Tree::try_merge_inner(std::vector<Step>& path, size_t depth) {
  Node& node = *path[depth].node;
  if (node.children.size() >= kMaxChildren / 4) return;
  Node& parent = *path[depth - 1].node;
  uint32_t index = path[depth - 1].index;
  uint32_t left_index = index > 0 ? index - 1 : 0;
  if (left_index + 1 >= parent.children.size()) return;
  const NodeRef& left_before = parent.children[left_index].node;
  const NodeRef& right_before = parent.children[left_index + 1].node;
  if (!left_before->loaded() || !right_before->loaded()) return;
  if (left_before->children.size() + right_before->children.size() > kMaxChildren * 3 / 4) return;

  parent.children[left_index].node = own(left_before);
  parent.children[left_index + 1].node = own(right_before);
  Node& left = *parent.children[left_index].node;
  Node& right = *parent.children[left_index + 1].node;
  right.children.front().key = parent.children[left_index + 1].key;
  std::move(right.children.begin(), right.children.end(), std::back_inserter(left.children));
  right.children.clear();
  path[depth - 1].index = left_index + 1;
  path[depth].node = &right;
  remove_child(path, depth);
}

void Tree::collapse_root() {
  while (root_->level > 0 && root_->children.size() == 1 &&
         root_->children.front().node->loaded()) {
    NodeRef only = root_->children.front().node;
    retire(*root_);
    root_ = only;
  }
}

// --- loading, freezing, evicting

void Tree::install(const NodeRef& node, AlignedBuffer image) {
  if (node->loaded() || node->state != NodeState::clean) return;
  if (node->level == 0) {
    node->set_image(std::move(image));
    node->recently_used = true;
    clock_.push_back(node);
    return;
  }
  const auto& header = *reinterpret_cast<const DiskNodeHeader*>(image.data());
  const auto* entries = reinterpret_cast<const DiskChild*>(image.data() + sizeof(DiskNodeHeader));
  std::vector<Child> children;
  children.reserve(header.count);
  for (uint32_t i = 0; i < header.count; ++i) {
    NodeAddress address = from_disk(entries[i].pointer);
    auto child = std::make_shared<Node>(node->level - 1, address.generation, &loaded_leaves_);
    child->state = NodeState::clean;
    child->lba[0] = address.lba[0];
    child->lba[1] = address.lba[1];
    child->checksum = address.checksum;
    children.push_back({from_disk(entries[i].key), std::move(child)});
  }
  node->children = std::move(children);
}

void Tree::collect_dirty(const NodeRef& node, std::vector<NodeRef>& out) {
  if (node->state != NodeState::dirty) return;
  for (const Child& child : node->children) collect_dirty(child.node, out);
  out.push_back(node);
}

std::vector<NodeRef> Tree::freeze() {
  std::vector<NodeRef> nodes;
  collect_dirty(root_, nodes);
  FS_ASSERT(nodes.size() == dirty_nodes());
  for (const NodeRef& node : nodes) node->state = NodeState::frozen;
  dirty_nodes_ = 0;
  ++generation_;
  return nodes;
}

void Tree::frozen_became_clean(const std::vector<NodeRef>& nodes) {
  for (const NodeRef& node : nodes) {
    FS_ASSERT(node->state == NodeState::frozen);
    node->state = NodeState::clean;
  }
}

uint64_t Tree::evict(uint64_t limit_leaves, uint64_t max_steps) {
  uint64_t evicted = 0;
  for (uint64_t step = 0; step < max_steps && !clock_.empty(); ++step) {
    if (loaded_leaves() <= limit_leaves) break;
    NodeRef node = clock_.front().lock();
    clock_.pop_front();
    if (!node || !node->loaded()) continue;
    if (node->state != NodeState::clean || node->recently_used.exchange(false)) {
      clock_.push_back(node);
      continue;
    }
    node->drop_body();
    ++evicted;
  }
  return evicted;
}

void Tree::build_image(Node& node, std::span<std::byte> out) {
  FS_ASSERT(out.size() == kBlockSize);
  if (node.level == 0) {
    std::memcpy(out.data(), node.image.data(), kBlockSize);
  } else {
    std::memset(out.data(), 0, kBlockSize);
    auto& header = *reinterpret_cast<DiskNodeHeader*>(out.data());
    header.magic = kNodeMagic;
    header.level = static_cast<uint8_t>(node.level);
    header.count = static_cast<uint16_t>(node.children.size());
    auto* entries = reinterpret_cast<DiskChild*>(out.data() + sizeof(DiskNodeHeader));
    FS_ASSERT(node.children.size() <= kMaxChildren);
    for (size_t i = 0; i < node.children.size(); ++i) {
      FS_ASSERT(node.children[i].node->lba[0].value != 0);
      entries[i].key = to_disk(node.children[i].key);
      entries[i].pointer = to_disk(node.children[i].node->address());
    }
  }
  node.checksum = seal_node(out, node.address());
}

}  // namespace stablefs
