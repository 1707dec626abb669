// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/workload.h"

#include <algorithm>
#include <cstring>

#include "base/scheduler.h"

namespace stablefs::sim {
namespace {

constexpr uint64_t kNames = 5;
constexpr uint64_t kDepthMax = 4;
constexpr uint64_t kXattrNames = 3;
constexpr uint64_t kOpenMax = 3;
constexpr const char* kOpenFile = "(open file)";
constexpr uint64_t kLargeBytes = 33 * kBlockSize;

constexpr uint64_t kWeights[][3] = {
#define STABLEFS_SIM_CHOICE(name, all, data, names) {all, data, names},
    STABLEFS_SIM_CHOICES(STABLEFS_SIM_CHOICE)
#undef STABLEFS_SIM_CHOICE
};

}  // namespace

std::vector<Choice> draw_choices(Prng& prng, Profile profile, uint64_t count) {
  const auto column = static_cast<size_t>(profile);
  uint64_t sum = 0;
  for (const auto& weights : kWeights) sum += weights[column];
  std::vector<Choice> choices;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t left = prng.below(sum);
    size_t kind = 0;
    while (left >= kWeights[kind][column]) left -= kWeights[kind++][column];
    choices.push_back({static_cast<ChoiceKind>(kind), prng.next()});
  }
  return choices;
}

Actor::Actor(FileSystem& fs, uint64_t thread, const Tree& tree, EventLog& log, uint64_t& time,
             Camera& camera, const ActorLimits& limits)
    : thread_(thread),
      prefix_(owner_prefix(thread)),
      limits_(limits),
      operator_(fs, tree, log, time, [&camera] { camera.on_promise(); }) {}

void Actor::step(const Choice& choice) {
  Prng prng(choice.seed);
  switch (choice.kind) {
    case ChoiceKind::create:
      return create(prng, EventKind::create);
    case ChoiceKind::create_unnamed:
      return create_unnamed(prng);
    case ChoiceKind::link_unnamed:
      return link_unnamed(prng);
    case ChoiceKind::make_directory:
      return create(prng, EventKind::make_directory);
    case ChoiceKind::symlink:
      return create(prng, EventKind::symlink);
    case ChoiceKind::link:
      return link(prng);
    case ChoiceKind::unlink:
      return unlink(prng);
    case ChoiceKind::remove_directory:
      return remove_directory(prng);
    case ChoiceKind::rename:
      return rename(prng, false);
    case ChoiceKind::rename_over:
      return rename(prng, true);
    case ChoiceKind::exchange:
      return exchange(prng);
    case ChoiceKind::set_mode:
      return set_mode(prng);
    case ChoiceKind::set_xattr:
      return set_xattr(prng);
    case ChoiceKind::remove_xattr:
      return remove_xattr(prng);
    case ChoiceKind::truncate_down:
      return truncate(prng, false);
    case ChoiceKind::truncate_up:
      return truncate(prng, true);
    case ChoiceKind::write_odd:
    case ChoiceKind::append:
    case ChoiceKind::write_pages:
    case ChoiceKind::write_large:
      return write_path(prng, choice.kind);
    case ChoiceKind::write_open:
      return write_open(prng);
    case ChoiceKind::punch:
      return change_range(prng, {.kind = EventKind::zero, .keep_size = true, .punches = true});
    case ChoiceKind::zero:
      return change_range(prng, {.kind = EventKind::zero});
    case ChoiceKind::zero_inside:
      return change_range(prng, {.kind = EventKind::zero, .keep_size = true});
    case ChoiceKind::allocate:
      return change_range(prng, {.kind = EventKind::allocate, .keep_size = true});
    case ChoiceKind::allocate_more:
      return change_range(prng, {.kind = EventKind::allocate});
    case ChoiceKind::copy:
      return copy(prng);
    case ChoiceKind::fsync:
      return fsync(prng);
    case ChoiceKind::fsync_other:
      return fsync_other(prng);
    case ChoiceKind::fsync_directory:
      (void)operator_.perform({.kind = EventKind::fsync, .path = any_directory(prng)});
      return;
    case ChoiceKind::syncfs:
      (void)operator_.perform({.kind = EventKind::syncfs});
      return;
    case ChoiceKind::open:
      return open(prng);
    case ChoiceKind::close:
      return close(prng);
    case ChoiceKind::read:
      return read(prng);
    case ChoiceKind::pause:
      for (uint64_t left = prng.below(300); left > 0; --left) Scheduler::yield();
      return;
  }
}

// --- what to do it to

std::string Actor::any_directory(Prng& prng) const {
  const auto own = any(prng, NodeType::directory);
  if (own && prng.chance(2) &&
      std::count(own->begin(), own->end(), '/') < static_cast<long>(kDepthMax)) {
    return *own + "/";
  }
  return kSharedDirectories[prng.below(std::size(kSharedDirectories))];
}

std::string Actor::any_name(Prng& prng) const {
  return any_directory(prng) + prefix_ + "n" + std::to_string(prng.below(kNames));
}

std::optional<std::string> Actor::any(Prng& prng, NodeType type) const {
  std::vector<const std::string*> paths;
  for (const auto& [path, node] : tree().names) {
    if (tree().nodes.at(node).type == type) paths.push_back(&path);
  }
  if (paths.empty()) return std::nullopt;
  return *paths[prng.below(paths.size())];
}

std::optional<std::string> Actor::any(Prng& prng) const {
  if (tree().names.empty()) return std::nullopt;
  auto at = tree().names.begin();
  std::advance(at, prng.below(tree().names.size()));
  return at->first;
}

std::string random_bytes(Prng& prng, uint64_t length) {
  std::string bytes(length, '\0');
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = prng.next() | 0x0101010101010101ull;
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, length - i));
  }
  return bytes;
}

// --- names

void Actor::create(Prng& prng, EventKind kind) {
  Event event{.kind = kind, .path = any_name(prng), .node = new_node()};
  if (tree().names.contains(event.path)) return;
  event.mode = 0600 + static_cast<uint32_t>(prng.below(0100));
  event.opens = prng.chance(2);
  if (kind == EventKind::symlink) {
    const uint64_t length = prng.chance(4) ? 1 + prng.below(3000) : 1 + prng.below(40);
    event.bytes.assign(length, static_cast<char>('a' + prng.below(26)));
  }
  operator_.perform(event);
}

void Actor::create_unnamed(Prng& prng) {
  if (open_.size() >= kOpenMax) return;
  const auto file = operator_.create_unnamed(
      {.kind = EventKind::create_unnamed,
       .path = kSharedDirectories[prng.below(std::size(kSharedDirectories))],
       .node = new_node(),
       .mode = 0600 + static_cast<uint32_t>(prng.below(0100))});
  if (file) open_.push_back(*file);
}

// Made without a name, or unlinked since it was opened.
void Actor::link_unnamed(Prng& prng) {
  std::vector<OpenFile> files;
  for (const OpenFile& file : open_) {
    if (!tree().has_name(file.node)) files.push_back(file);
  }
  const std::string path = any_name(prng);
  if (files.empty()) return create_unnamed(prng);
  if (tree().names.contains(path)) return;
  const OpenFile file = files[prng.below(files.size())];
  operator_.perform(
      {.kind = EventKind::link, .path = kOpenFile, .new_path = path, .node = file.node}, &file);
}

void Actor::link(Prng& prng) {
  const auto from = any(prng, prng.chance(5) ? NodeType::symlink : NodeType::file);
  const std::string path = any_name(prng);
  if (!from || tree().names.contains(path)) return;
  operator_.perform(
      {.kind = EventKind::link, .path = *from, .new_path = path, .node = tree().names.at(*from)});
}

void Actor::unlink(Prng& prng) {
  const NodeType rest = prng.chance(2) ? NodeType::symlink : NodeType::whiteout;
  const auto path = any(prng, prng.chance(3) ? rest : NodeType::file);
  if (path) operator_.perform({.kind = EventKind::unlink, .path = *path});
}

void Actor::remove_directory(Prng& prng) {
  const auto path = any(prng, NodeType::directory);
  if (!path) return;
  if (!tree().empty_directory(*path)) return operator_.expect_not_empty(*path);
  operator_.perform({.kind = EventKind::remove_directory, .path = *path});
}

void Actor::rename(Prng& prng, bool over_a_file) {
  const auto from = over_a_file ? any(prng, NodeType::file) : any(prng);
  const auto over = any(prng, NodeType::file);
  if (!from || (over_a_file && !over)) return;
  const std::string to = over_a_file ? *over : any_name(prng);
  if (to == *from || is_below(to, *from) || is_below(*from, to)) return;
  const NodeId source = tree().names.at(*from);
  const auto target = tree().names.find(to);
  const NodeType type = tree().nodes.at(source).type;
  bool replaces = false;
  if (target != tree().names.end()) {
    const NodeType target_type = tree().nodes.at(target->second).type;
    const bool fits = (type == NodeType::directory) == (target_type == NodeType::directory);
    if (!fits || target->second == source || !tree().empty_directory(to)) return;
    replaces = type == NodeType::file;
  }
  operator_.perform({.kind = EventKind::rename,
                     .path = *from,
                     .new_path = to,
                     .node = source,
                     .replaces = replaces,
                     .whiteout = prng.chance(5) ? new_node() : 0});
}

void Actor::exchange(Prng& prng) {
  const auto one = any(prng);
  const auto two = any(prng);
  if (!one || *one == *two || is_below(*one, *two) || is_below(*two, *one)) return;
  operator_.perform({.kind = EventKind::exchange, .path = *one, .new_path = *two});
}

// --- files

void Actor::set_mode(Prng& prng) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  operator_.perform({.kind = EventKind::set_mode,
                     .path = *path,
                     .node = tree().names.at(*path),
                     .mode = 0600 + static_cast<uint32_t>(prng.below(0100))});
}

void Actor::set_xattr(Prng& prng) {
  const auto path = any(prng, prng.chance(4) ? NodeType::directory : NodeType::file);
  if (!path) return;
  Event event{.kind = EventKind::set_xattr, .path = *path, .node = tree().names.at(*path)};
  event.xattr = "user." + std::to_string(prng.below(kXattrNames));
  const uint64_t length = prng.chance(20)  ? prng.below(kMaxXattrValueBytes + 1)
                          : prng.chance(3) ? prng.below(5000)
                                           : prng.below(100);
  event.bytes = random_bytes(prng, length);
  operator_.perform(std::move(event));
}

void Actor::remove_xattr(Prng& prng) {
  const auto path = any(prng, prng.chance(4) ? NodeType::directory : NodeType::file);
  if (!path) return;
  const NodeId node = tree().names.at(*path);
  const auto& xattrs = tree().nodes.at(node).xattrs;
  if (xattrs.empty()) return;
  operator_.perform({.kind = EventKind::remove_xattr,
                     .path = *path,
                     .node = node,
                     .xattr = xattrs.begin()->first});
}

void Actor::truncate(Prng& prng, bool up) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  const NodeId node = tree().names.at(*path);
  const uint64_t size = tree().nodes.at(node).content.size();
  uint64_t wanted = up ? size + prng.below(5 * kBlockSize) : prng.below(size + 1);
  if (prng.chance(3)) wanted = wanted / kBlockSize * kBlockSize;
  wanted = std::min(wanted, limits_.file_bytes_max);
  operator_.perform({.kind = EventKind::truncate, .path = *path, .node = node, .size = wanted});
}

void Actor::write_path(Prng& prng, ChoiceKind kind) {
  const auto path = any(prng, NodeType::file);
  if (!path) return create(prng, EventKind::create);
  Event event{.kind = EventKind::write, .path = *path, .node = tree().names.at(*path)};
  const uint64_t size = tree().nodes.at(event.node).content.size();
  event.offset = prng.below(size + 2 * kBlockSize);
  uint64_t length = 1 + prng.below(prng.chance(3) ? 3 * kBlockSize : 600);
  if (kind == ChoiceKind::append) event.offset = size;
  if (kind == ChoiceKind::write_pages) {  // as the kernel writes back a mapped file
    event.offset = event.offset / kBlockSize * kBlockSize;
    length = (1 + prng.below(3)) * kBlockSize;
    event.times_follow = prng.chance(2);
  }
  if (kind == ChoiceKind::write_large) {
    event.offset = 0;
    length = kLargeBytes;
  }
  write(std::move(event), length, prng, nullptr);
}

void Actor::write_open(Prng& prng) {
  if (open_.empty()) return open(prng);
  const OpenFile file = open_[prng.below(open_.size())];
  const uint64_t size = tree().nodes.at(file.node).content.size();
  write({.kind = EventKind::write,
         .path = kOpenFile,
         .node = file.node,
         .offset = prng.below(size + kBlockSize),
         .synchronous = file.synchronous},
        1 + prng.below(2 * kBlockSize), prng, &file);
}

void Actor::write(Event event, uint64_t length, Prng& prng, const OpenFile* file) {
  event.offset = std::min(event.offset, limits_.file_bytes_max - 1);
  event.direct = !event.times_follow && prng.chance(4);
  event.bytes = random_bytes(prng, std::min(length, limits_.file_bytes_max - event.offset));
  operator_.perform(std::move(event), file);
}

void Actor::change_range(Prng& prng, Event event) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  event.path = *path;
  event.node = tree().names.at(*path);
  const uint64_t size = tree().nodes.at(event.node).content.size();
  event.offset = std::min(prng.below(size + kBlockSize), limits_.file_bytes_max - 1);
  if (prng.chance(3)) event.offset = event.offset / kBlockSize * kBlockSize;
  event.size = 1 + prng.below(prng.chance(2) ? 5 * kBlockSize : 600);
  event.size = std::min(event.size, limits_.file_bytes_max - event.offset);
  operator_.perform(std::move(event));
}

// Between files, or inside one: mostly so that blocks can be shared.
void Actor::copy(Prng& prng) {
  const auto from = any(prng, NodeType::file);
  const auto path = any(prng, NodeType::file);
  if (!from) return;
  Event event{.kind = EventKind::write, .path = *path, .node = tree().names.at(*path)};
  event.copied_from = *from;
  const NodeId source = tree().names.at(*from);
  const std::string& content = tree().nodes.at(source).content;
  if (content.empty()) return;
  const bool whole = prng.chance(3);
  event.copied_offset = whole ? 0 : prng.below(content.size());
  event.offset = whole ? 0 : prng.below(content.size() + 2 * kBlockSize);
  if (prng.chance(2)) event.copied_offset -= event.copied_offset % kBlockSize;
  if (!prng.chance(4)) {
    event.offset -= event.offset % kBlockSize;
    event.offset += event.copied_offset % kBlockSize;
  }
  if (event.offset >= limits_.file_bytes_max) return;
  uint64_t length =
      std::min(content.size() - event.copied_offset, limits_.file_bytes_max - event.offset);
  if (!whole && prng.chance(2)) length = 1 + prng.below(length);
  const uint64_t apart =
      std::max(event.offset, event.copied_offset) - std::min(event.offset, event.copied_offset);
  if (source == event.node && apart < length) return;
  event.bytes = content.substr(event.copied_offset, length);
  operator_.perform(std::move(event));
}

void Actor::fsync(Prng& prng) {
  Event event{.kind = EventKind::fsync, .data_only = prng.chance(2)};
  if (!open_.empty() && prng.chance(2)) {
    const OpenFile file = open_[prng.below(open_.size())];
    event.path = kOpenFile;
    event.node = file.node;
    operator_.perform(std::move(event), &file);
    return;
  }
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  event.path = *path;
  event.node = tree().names.at(*path);
  operator_.perform(std::move(event));
}

// A file of another thread, which may be busy with it, or have just removed it.
void Actor::fsync_other(Prng& prng) {
  const Actor& other = (*everybody_)[prng.below(everybody_->size())];
  const auto path = other.any(prng, NodeType::file);
  if (!path || &other == this) return;
  OpenFile file;
  file.node = other.tree().names.at(*path);
  file.ino = other.operator_.ino_of(file.node);
  operator_.perform({.kind = EventKind::fsync,
                     .path = *path,
                     .node = file.node,
                     .data_only = prng.chance(2),
                     .foreign = true},
                    &file);
}

void Actor::open(Prng& prng) {
  const auto path = any(prng, NodeType::file);
  if (!path || open_.size() >= kOpenMax) return;
  const auto file = operator_.open(*path, limits_.synchronous_handles && prng.chance(2));
  if (!file.ok()) return operator_.complain({.path = *path}, "open: " + file.error().message());
  open_.push_back(*file);
}

void Actor::close(Prng& prng) {
  if (open_.empty()) return;
  std::swap(open_[prng.below(open_.size())], open_.back());
  const Status status = operator_.close(open_.back());
  if (!status.ok()) {
    operator_.complain({.path = kOpenFile}, "close: " + status.error().message());
  }
  open_.pop_back();
}

void Actor::close_all() {
  for (const OpenFile& file : open_) (void)operator_.close(file).ok();
  open_.clear();
}

void Actor::read(Prng& prng) {
  if (const auto path = any(prng, NodeType::file)) operator_.compare_contents(*path);
}

}  // namespace stablefs::sim
