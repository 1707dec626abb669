// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "integrity/tuple.h"

namespace stablefs::sim {

const char* to_string(EventKind kind) {
  constexpr const char* kNames[] = {"create",   "create unnamed", "mkdir",    "symlink",  "link",
                                    "unlink",   "rmdir",          "rename",   "exchange", "chmod",
                                    "setxattr", "removexattr",    "truncate", "write",    "zero",
                                    "allocate", "fsync",          "syncfs",   "nothing"};
  static_assert(std::size(kNames) == static_cast<size_t>(EventKind::nothing) + 1);
  return kNames[static_cast<size_t>(kind)];
}

bool Event::is_metadata() const {
  return kind < EventKind::write;
}

std::string Event::text() const {
  std::string text =
      fmt::format("[{},{}] {} {}", invoked, replied == kNever ? "-" : std::to_string(replied),
                  to_string(kind), path);
  if (!new_path.empty()) text += " -> " + new_path;
  if (kind == EventKind::write) text += fmt::format(" offset {} length {}", offset, bytes.size());
  if (!copied_from.empty()) text += fmt::format(" from {} offset {}", copied_from, copied_offset);
  if (punches) text += " (punch)";
  if (kind == EventKind::zero || kind == EventKind::allocate) {
    text += fmt::format(" offset {} length {}{}", offset, size, keep_size ? " keep size" : "");
  }
  if (kind == EventKind::truncate) text += fmt::format(" to {}", size);
  if (!xattr.empty()) text += fmt::format(" {} of {} bytes", xattr, bytes.size());
  if (kind == EventKind::set_mode) text += fmt::format(" {:o}", mode);
  if (synchronous) text += " synchronous";
  if (foreign) text += " (of another thread)";
  if (replaces) text += " (replaces)";
  if (direct) text += " (direct)";
  if (whiteout != 0) text += " (leaves a whiteout)";
  return text + fmt::format(" (node {})", node);
}

std::string parent_of(const std::string& path) {
  return path.substr(0, path.rfind('/') + 1);
}

std::string last_component(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

bool is_below(const std::string& path, const std::string& directory) {
  return path.size() > directory.size() && path.starts_with(directory) &&
         path[directory.size()] == '/';
}

std::string owner_prefix(uint64_t thread) {
  return "t" + std::to_string(thread) + "_";
}

namespace {

using Names = std::map<std::string, NodeId>;

// Takes `path` and what is below it out; the names in the result are relative to it.
Names take_subtree(Names& names, const std::string& path) {
  Names taken;
  for (auto at = names.lower_bound(path); at != names.end() && at->first.starts_with(path);) {
    if (at->first.size() > path.size() && at->first[path.size()] != '/') {
      ++at;
      continue;
    }
    taken[at->first.substr(path.size())] = at->second;
    at = names.erase(at);
  }
  return taken;
}

void put_subtree(Names& names, const std::string& path, const Names& subtree) {
  for (const auto& [name, node] : subtree) names[path + name] = node;
}

}  // namespace

void Tree::apply(const Event& event) {
  switch (event.kind) {
    case EventKind::create:
      names[event.path] = event.node;
      nodes[event.node] = {NodeType::file, event.mode, {}, {}, {}};
      break;
    case EventKind::create_unnamed:
      nodes[event.node] = {NodeType::file, event.mode, {}, {}, {}};
      break;
    case EventKind::make_directory:
      names[event.path] = event.node;
      nodes[event.node] = {NodeType::directory, event.mode, {}, {}, {}};
      break;
    case EventKind::symlink:
      names[event.path] = event.node;
      nodes[event.node] = {NodeType::symlink, 0777, event.bytes, {}, {}};
      break;
    case EventKind::link:
      names[event.new_path] = event.node;
      break;
    case EventKind::unlink:
    case EventKind::remove_directory:
      names.erase(event.path);
      break;
    case EventKind::rename: {
      const Names moved = take_subtree(names, event.path);
      put_subtree(names, event.new_path, moved);
      if (event.whiteout == 0) break;
      names[event.path] = event.whiteout;
      nodes[event.whiteout] = {NodeType::whiteout, 0, {}, {}, {}};
      break;
    }
    case EventKind::exchange: {
      const Names first = take_subtree(names, event.path);
      const Names second = take_subtree(names, event.new_path);
      put_subtree(names, event.new_path, first);
      put_subtree(names, event.path, second);
      break;
    }
    case EventKind::set_mode:
      nodes[event.node].mode = event.mode;
      break;
    case EventKind::set_xattr:
      nodes[event.node].xattrs[event.xattr] = event.bytes;
      break;
    case EventKind::remove_xattr:
      nodes[event.node].xattrs.erase(event.xattr);
      break;
    case EventKind::truncate:
      nodes[event.node].content.resize(event.size);
      break;
    case EventKind::write: {
      std::string& content = nodes[event.node].content;
      const uint64_t end = event.offset + event.bytes.size();
      if (content.size() < end) content.resize(end);
      std::copy(event.bytes.begin(), event.bytes.end(),
                content.begin() + static_cast<ptrdiff_t>(event.offset));
      break;
    }
    case EventKind::zero: {
      std::string& content = nodes[event.node].content;
      const uint64_t end = event.offset + event.size;
      if (!event.keep_size && content.size() < end) content.resize(end);
      const uint64_t last = std::min<uint64_t>(end, content.size());
      if (event.offset < last) {
        std::fill(content.begin() + static_cast<ptrdiff_t>(event.offset),
                  content.begin() + static_cast<ptrdiff_t>(last), '\0');
      }
      break;
    }
    case EventKind::allocate: {
      std::string& content = nodes[event.node].content;
      const uint64_t end = event.offset + event.size;
      if (!event.keep_size && content.size() < end) content.resize(end);
      break;
    }
    case EventKind::fsync:
    case EventKind::syncfs:
    case EventKind::nothing:
      break;
  }
}

bool Tree::is_directory(const std::string& path) const {
  if (path.empty()) return true;
  const auto found = names.find(path);
  return found != names.end() && nodes.at(found->second).type == NodeType::directory;
}

bool Tree::empty_directory(const std::string& path) const {
  const auto next = names.lower_bound(path + "/");
  return next == names.end() || !next->first.starts_with(path + "/");
}

bool Tree::has_name(NodeId node) const {
  return std::any_of(names.begin(), names.end(),
                     [node](const auto& name) { return name.second == node; });
}

Tree Tree::part(const std::string& owner) const {
  Tree result;
  for (const auto& [path, node] : names) {
    bool owned = false;
    for (const char* shared : kSharedDirectories) owned |= path.starts_with(shared + owner);
    if (!owned) continue;
    result.names[path] = node;
    result.nodes[node] = nodes.at(node);
  }
  return result;
}

std::string Tree::names_text() const {
  std::map<NodeId, const std::string*> first_names;
  std::string text;
  for (const auto& [path, id] : names) {
    const Node& node = nodes.at(id);
    const auto [first, is_first] = first_names.emplace(id, &path);
    text += path;
    text += ' ';
    text += "fdlw"[static_cast<size_t>(node.type)];
    text += std::to_string(node.mode);
    if (node.type == NodeType::symlink) text += " -> " + node.target;
    if (!is_first) text += " = " + *first->second;
    for (const auto& [name, value] : node.xattrs) {
      text += fmt::format(" {} {} {:08x}", name, value.size(),
                          crc32c(0, std::as_bytes(std::span(value.data(), value.size()))));
    }
    text += '\n';
  }
  return text;
}

std::string Tree::contents_text() const {
  std::string text;
  for (const auto& [path, id] : names) {
    const std::string& content = nodes.at(id).content;
    if (nodes.at(id).type != NodeType::file) continue;
    text += fmt::format("{} {} {:08x}\n", path, content.size(),
                        crc32c(0, std::as_bytes(std::span(content.data(), content.size()))));
  }
  return text;
}

}  // namespace stablefs::sim
