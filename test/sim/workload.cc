// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/workload.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/scheduler.h"
#include "sim/observe.h"

namespace stablefs::sim {
namespace {

constexpr uint64_t kNames = 5;
constexpr uint64_t kDepthMax = 4;
constexpr uint64_t kOpenMax = 3;
constexpr uint64_t kLargeBytes = 33 * kBlockSize;

constexpr uint64_t kWeights[] = {
#define STABLEFS_SIM_CHOICE(name, weight) weight,
    STABLEFS_SIM_CHOICES(STABLEFS_SIM_CHOICE)
#undef STABLEFS_SIM_CHOICE
};

BufferSlice payload_of(const std::string& bytes) {
  BufferSlice whole(blocks_for_bytes(bytes.size()) * kBlockSize);
  std::memcpy(whole.writable().data(), bytes.data(), bytes.size());
  return whole.slice(0, bytes.size());
}

const Error* error_of(const Status& status) {
  return status.ok() ? nullptr : &status.error();
}
template <class T>
const Error* error_of(const Result<T>& result) {
  return result.ok() ? nullptr : &result.error();
}

}  // namespace

std::vector<Choice> draw_choices(Prng& prng, uint64_t count) {
  const uint64_t sum = std::accumulate(std::begin(kWeights), std::end(kWeights), uint64_t{0});
  std::vector<Choice> choices;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t left = prng.below(sum);
    size_t kind = 0;
    while (left >= kWeights[kind]) left -= kWeights[kind++];
    choices.push_back({static_cast<ChoiceKind>(kind), prng.next()});
  }
  return choices;
}

class Actor::Walk {
 public:
  Walk(FileSystem& fs, const std::string& path) : fs_(fs) {
    for (size_t at = 1; at < path.size();) {
      const size_t end = std::min(path.find('/', at), path.size());
      auto found = fs_.lookup(ino_, path.substr(at, end - at));
      if (!found.ok()) {
        error_ = found.error();
        return;
      }
      ino_ = found->ino;
      held_.push_back(ino_);
      at = end + 1;
    }
  }
  ~Walk() {
    for (const Ino ino : held_) fs_.forget(ino, 1);
  }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  // For a call that needs it: fails with the error of the lookup.
  Result<Ino> ino() const {
    if (error_) return *error_;
    return ino_;
  }

 private:
  FileSystem& fs_;
  Ino ino_ = kRootIno;
  std::vector<Ino> held_;
  std::optional<Error> error_;
};

Actor::Actor(FileSystem& fs, uint64_t thread, const Tree& tree, EventLog& log, uint64_t& time,
             Camera& camera, const ActorLimits& limits)
    : fs_(fs),
      thread_(thread),
      prefix_(owner_prefix(thread)),
      tree_(tree),
      log_(log),
      time_(time),
      camera_(camera),
      limits_(limits) {}

void Actor::complain(const Event& event, const std::string& what) {
  if (complaint_.empty()) {
    complaint_ = fmt::format("thread {}: {}: {}", thread_, event.text(), what);
  }
}

// `call` may shorten the event: it gets the one in the log.
template <class Call>
bool Actor::perform(Event event, Call call) {
  event.invoked = ++time_;
  const size_t index = log_.size();
  log_.push_back(std::move(event));
  const auto result = call(log_[index]);
  Event& done = log_[index];
  const Error* error = error_of(result);
  if (error != nullptr) {
    if (error->code() != ErrorCode::no_space) complain(done, error->message());
    done.kind = EventKind::nothing;
    done.synchronous = false;
  }
  tree_.apply(done);
  done.replied = ++time_;
  const bool promised =
      done.kind == EventKind::fsync || done.kind == EventKind::syncfs || done.synchronous;
  if (promised) camera_.on_promise();
  return error == nullptr;
}

void Actor::step(const Choice& choice) {
  Prng prng(choice.seed);
  switch (choice.kind) {
    case ChoiceKind::create:
      return create(prng);
    case ChoiceKind::make_directory:
      return make_directory(prng);
    case ChoiceKind::symlink:
      return make_symlink(prng);
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
    case ChoiceKind::fsync:
      return fsync(prng);
    case ChoiceKind::fsync_directory:
      return fsync_directory(prng);
    case ChoiceKind::syncfs:
      return syncfs();
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
  for (const auto& [path, node] : tree_.names) {
    if (tree_.nodes.at(node).type == type) paths.push_back(&path);
  }
  if (paths.empty()) return std::nullopt;
  return *paths[prng.below(paths.size())];
}

std::optional<std::string> Actor::any(Prng& prng) const {
  if (tree_.names.empty()) return std::nullopt;
  auto at = tree_.names.begin();
  std::advance(at, prng.below(tree_.names.size()));
  return at->first;
}

// Never zero: holes stand out.
std::string Actor::random_bytes(Prng& prng, uint64_t length) {
  std::string bytes(length, '\0');
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = prng.next() | 0x0101010101010101ull;
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, length - i));
  }
  return bytes;
}

// --- names

void Actor::create(Prng& prng) {
  const std::string path = any_name(prng);
  if (tree_.names.contains(path)) return;
  const uint32_t mode = 0600 + static_cast<uint32_t>(prng.below(0100));
  const NodeId node = new_node();
  const bool opened = prng.chance(2);
  perform({.kind = EventKind::create, .path = path, .node = node, .mode = mode},
          [&](Event&) -> Status {
            const Walk parent(fs_, parent_of(path));
            const Ino at = FS_TRY(parent.ino());
            const NewFile file{S_IFREG | mode, 0, 0, 0, 0};
            OpenFlags flags;
            flags.read = flags.write = true;
            if (opened) {
              const auto made = FS_TRY(fs_.create(at, last_component(path), file, flags));
              fs_.release(made.second);
              fs_.forget(made.first.ino, 1);
              return {};
            }
            const Attributes made = FS_TRY(fs_.make_node(at, last_component(path), file));
            fs_.forget(made.ino, 1);
            return {};
          });
}

void Actor::make_directory(Prng& prng) {
  const std::string path = any_name(prng);
  if (tree_.names.contains(path)) return;
  perform({.kind = EventKind::make_directory, .path = path, .node = new_node(), .mode = 0755},
          [&](Event&) -> Status {
            const Walk parent(fs_, parent_of(path));
            const Attributes made = FS_TRY(
                fs_.make_directory(FS_TRY(parent.ino()), last_component(path), {0755, 0, 0, 0, 0}));
            fs_.forget(made.ino, 1);
            return {};
          });
}

void Actor::make_symlink(Prng& prng) {
  const std::string path = any_name(prng);
  if (tree_.names.contains(path)) return;
  const uint64_t length = prng.chance(4) ? 1 + prng.below(3000) : 1 + prng.below(40);
  const std::string target(length, static_cast<char>('a' + prng.below(26)));
  perform({.kind = EventKind::symlink, .path = path, .node = new_node(), .bytes = target},
          [&](Event&) -> Status {
            const Walk parent(fs_, parent_of(path));
            const Attributes made = FS_TRY(fs_.make_symlink(
                FS_TRY(parent.ino()), last_component(path), target, {0777, 0, 0, 0, 0}));
            fs_.forget(made.ino, 1);
            return {};
          });
}

void Actor::link(Prng& prng) {
  const auto from = any(prng, prng.chance(5) ? NodeType::symlink : NodeType::file);
  const std::string path = any_name(prng);
  if (!from || tree_.names.contains(path)) return;
  perform({.kind = EventKind::link, .path = *from, .new_path = path, .node = tree_.names.at(*from)},
          [&](Event&) -> Status {
            const Walk source(fs_, *from);
            const Walk parent(fs_, parent_of(path));
            const Attributes linked =
                FS_TRY(fs_.link(FS_TRY(source.ino()), FS_TRY(parent.ino()), last_component(path)));
            fs_.forget(linked.ino, 1);
            return {};
          });
}

void Actor::unlink(Prng& prng) {
  const auto path = any(prng, prng.chance(4) ? NodeType::symlink : NodeType::file);
  if (!path) return;
  perform({.kind = EventKind::unlink, .path = *path}, [&](Event&) -> Status {
    const Walk parent(fs_, parent_of(*path));
    return fs_.unlink(FS_TRY(parent.ino()), last_component(*path));
  });
}

void Actor::remove_directory(Prng& prng) {
  const auto path = any(prng, NodeType::directory);
  if (!path) return;
  if (!tree_.empty_directory(*path)) {
    const Walk parent(fs_, parent_of(*path));
    const auto ino = parent.ino();
    if (ino.ok() && !fs_.remove_directory(*ino, last_component(*path)).ok()) return;
    complain({.kind = EventKind::remove_directory, .path = *path}, "was not empty");
    return;
  }
  perform({.kind = EventKind::remove_directory, .path = *path}, [&](Event&) -> Status {
    const Walk parent(fs_, parent_of(*path));
    return fs_.remove_directory(FS_TRY(parent.ino()), last_component(*path));
  });
}

void Actor::rename(Prng& prng, bool over_a_file) {
  const auto from = over_a_file ? any(prng, NodeType::file) : any(prng);
  const auto over = any(prng, NodeType::file);
  if (!from || (over_a_file && !over)) return;
  const std::string to = over_a_file ? *over : any_name(prng);
  if (to == *from || is_below(to, *from) || is_below(*from, to)) return;
  const NodeId source = tree_.names.at(*from);
  const auto target = tree_.names.find(to);
  const NodeType type = tree_.nodes.at(source).type;
  bool replaces = false;
  if (target != tree_.names.end()) {
    const NodeType target_type = tree_.nodes.at(target->second).type;
    const bool fits = (type == NodeType::directory) == (target_type == NodeType::directory);
    if (!fits || target->second == source || !tree_.empty_directory(to)) return;
    replaces = type == NodeType::file;
  }
  perform({.kind = EventKind::rename,
           .path = *from,
           .new_path = to,
           .node = source,
           .replaces = replaces},
          [&](Event&) -> Status {
            const Walk parent(fs_, parent_of(*from));
            const Walk new_parent(fs_, parent_of(to));
            return fs_.rename(FS_TRY(parent.ino()), last_component(*from), FS_TRY(new_parent.ino()),
                              last_component(to), RenameMode::replace);
          });
}

void Actor::exchange(Prng& prng) {
  const auto one = any(prng);
  const auto two = any(prng);
  if (!one || *one == *two || is_below(*one, *two) || is_below(*two, *one)) return;
  perform({.kind = EventKind::exchange, .path = *one, .new_path = *two}, [&](Event&) -> Status {
    const Walk parent(fs_, parent_of(*one));
    const Walk new_parent(fs_, parent_of(*two));
    return fs_.rename(FS_TRY(parent.ino()), last_component(*one), FS_TRY(new_parent.ino()),
                      last_component(*two), RenameMode::exchange);
  });
}

// --- files

void Actor::set_mode(Prng& prng) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  const uint32_t mode = 0600 + static_cast<uint32_t>(prng.below(0100));
  perform({.kind = EventKind::set_mode, .path = *path, .node = tree_.names.at(*path), .mode = mode},
          [&](Event&) -> Status {
            const Walk file(fs_, *path);
            AttributeChange change;
            change.mode = mode;
            FS_TRY(fs_.set_attributes(FS_TRY(file.ino()), change));
            return {};
          });
}

void Actor::truncate(Prng& prng, bool up) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  const NodeId node = tree_.names.at(*path);
  const uint64_t size = tree_.nodes.at(node).content.size();
  uint64_t wanted = up ? size + prng.below(5 * kBlockSize) : prng.below(size + 1);
  if (prng.chance(3)) wanted = wanted / kBlockSize * kBlockSize;
  wanted = std::min(wanted, limits_.file_bytes_max);
  perform({.kind = EventKind::truncate, .path = *path, .node = node, .size = wanted},
          [&](Event&) -> Status {
            const Walk file(fs_, *path);
            AttributeChange change;
            change.size_bytes = wanted;
            FS_TRY(fs_.set_attributes(FS_TRY(file.ino()), change));
            return {};
          });
}

void Actor::write_path(Prng& prng, ChoiceKind kind) {
  const auto path = any(prng, NodeType::file);
  if (!path) return create(prng);
  const NodeId node = tree_.names.at(*path);
  const uint64_t size = tree_.nodes.at(node).content.size();
  uint64_t offset = prng.below(size + 2 * kBlockSize);
  uint64_t length = 1 + prng.below(prng.chance(3) ? 3 * kBlockSize : 600);
  bool times_follow = false;
  if (kind == ChoiceKind::append) offset = size;
  if (kind == ChoiceKind::write_pages) {  // as the kernel writes back a mapped file
    offset = offset / kBlockSize * kBlockSize;
    length = (1 + prng.below(3)) * kBlockSize;
    times_follow = prng.chance(2);
  }
  if (kind == ChoiceKind::write_large) {
    offset = 0;
    length = kLargeBytes;
  }
  const Walk file(fs_, *path);
  const auto ino = file.ino();
  if (!ino.ok()) return complain({.kind = EventKind::write, .path = *path}, ino.error().message());
  write({node, *ino, 0, false}, *path, offset, length, prng, times_follow);
}

void Actor::write_open(Prng& prng) {
  if (open_.empty()) return open(prng);
  const OpenFile& file = open_[prng.below(open_.size())];
  const uint64_t size = tree_.nodes.at(file.node).content.size();
  write(file, "(open file)", prng.below(size + kBlockSize), 1 + prng.below(2 * kBlockSize), prng,
        false);
}

void Actor::write(const OpenFile& file, const std::string& path, uint64_t offset, uint64_t length,
                  Prng& prng, bool times_follow) {
  if (offset >= limits_.file_bytes_max) offset = limits_.file_bytes_max - 1;
  length = std::min(length, limits_.file_bytes_max - offset);
  perform({.kind = EventKind::write,
           .path = path,
           .node = file.node,
           .offset = offset,
           .bytes = random_bytes(prng, length),
           .synchronous = file.synchronous},
          [&](Event& event) -> Status {
            const uint64_t done = FS_TRY(fs_.write(file.ino, file.handle, offset,
                                                   payload_of(event.bytes), false, times_follow));
            if (done == 0 || done > length) complain(event, fmt::format("wrote {} bytes", done));
            event.bytes.resize(std::min(done, length));
            return {};
          });
}

void Actor::fsync(Prng& prng) {
  const bool data_only = prng.chance(2);
  if (!open_.empty() && prng.chance(2)) {
    const OpenFile file = open_[prng.below(open_.size())];
    perform({.kind = EventKind::fsync, .path = "(open file)", .node = file.node},
            [&](Event&) { return fs_.fsync(file.ino, file.handle, data_only); });
    return;
  }
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  perform({.kind = EventKind::fsync, .path = *path, .node = tree_.names.at(*path)},
          [&](Event&) -> Status {
            const Walk file(fs_, *path);
            return fs_.fsync(FS_TRY(file.ino()), 0, data_only);
          });
}

void Actor::fsync_directory(Prng& prng) {
  const std::string path = any_directory(prng);
  perform({.kind = EventKind::fsync, .path = path}, [&](Event&) -> Status {
    const Walk directory(fs_, path);
    return fs_.fsync(FS_TRY(directory.ino()), 0, false);
  });
}

void Actor::syncfs() {
  perform({.kind = EventKind::syncfs}, [&](Event&) { return fs_.sync_all(); });
}

void Actor::open(Prng& prng) {
  const auto path = any(prng, NodeType::file);
  if (!path || open_.size() >= kOpenMax) return;
  const Walk file(fs_, *path);
  OpenFlags flags;
  flags.read = flags.write = true;
  flags.sync = limits_.synchronous_handles && prng.chance(2);
  const auto ino = file.ino();
  auto handle = ino.ok() ? fs_.open_file(*ino, flags) : Result<HandleId>(ino.error());
  if (!handle.ok()) return complain({.path = *path}, "open: " + handle.error().message());
  open_.push_back({tree_.names.at(*path), *ino, *handle, flags.sync});
}

void Actor::close(Prng& prng) {
  if (open_.empty()) return;
  std::swap(open_[prng.below(open_.size())], open_.back());
  const OpenFile& file = open_.back();
  const Status status = fs_.flush(file.ino, file.handle);
  if (!status.ok()) complain({.path = "(open file)"}, "close: " + status.error().message());
  fs_.release(file.handle);
  open_.pop_back();
}

void Actor::close_all() {
  for (const OpenFile& file : open_) fs_.release(file.handle);
  open_.clear();
}

void Actor::read(Prng& prng) {
  const auto path = any(prng, NodeType::file);
  if (!path) return;
  const Walk file(fs_, *path);
  const auto ino = file.ino();
  if (!ino.ok()) return complain({.path = *path}, "lookup: " + ino.error().message());
  const std::string& expected = tree_.nodes.at(tree_.names.at(*path)).content;
  std::string found;
  const auto done = read_file(fs_, *ino, expected.size() + 100, found);
  if (!done.ok()) return complain({.path = *path}, "read: " + done.error().message());
  if (found != expected) complain({.path = *path}, "read what was not written");
}

}  // namespace stablefs::sim
