// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/operator.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "sim/observe.h"

namespace stablefs::sim {
namespace {

BufferSlice payload_of(const std::string& bytes) {
  BufferSlice whole(blocks_for_bytes(bytes.size()) * kBlockSize);
  std::memcpy(whole.writable().data(), bytes.data(), bytes.size());
  return whole.slice(0, bytes.size());
}

// An inode found by its path; gives the lookups back.
class Walk {
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

}  // namespace

void Operator::complain(const Event& event, const std::string& what) {
  if (complaint_.empty()) complaint_ = fmt::format("{}: {}", event.text(), what);
}

bool Operator::perform(Event event, const OpenFile* file) {
  event.invoked = ++time_;
  const size_t index = log_.size();
  log_.push_back(std::move(event));
  Event& done = log_[index];
  const Status status = execute(done, file);
  if (!status.ok()) {
    const ErrorCode code = status.error().code();
    const bool expected = code == ErrorCode::no_space ||
                          (done.foreign && code == ErrorCode::stale_inode);  // just removed
    if (!expected) complain(done, status.error().message());
    done.kind = EventKind::nothing;
    done.synchronous = false;
  }
  tree_.apply(done);
  done.replied = ++time_;
  if (done.is_promise() && on_promise_) on_promise_();
  return status.ok();
}

Status Operator::execute(Event& event, const OpenFile* file) {
  AttributeChange change;
  switch (event.kind) {
    case EventKind::set_mode:
      change.mode = event.mode;
      return this->change(event, change);
    case EventKind::set_xattr: {
      const Walk walk(fs_, event.path);
      const std::span value(event.bytes.data(), event.bytes.size());
      return fs_.set_xattr(FS_TRY(walk.ino()), event.xattr, std::as_bytes(value), {});
    }
    case EventKind::remove_xattr: {
      const Walk walk(fs_, event.path);
      return fs_.remove_xattr(FS_TRY(walk.ino()), event.xattr);
    }
    case EventKind::truncate:
      change.size_bytes = event.size;
      return this->change(event, change);
    case EventKind::write:
      return write(event, file);
    case EventKind::zero: {
      const Walk walk(fs_, event.path);
      const Ino ino = FS_TRY(walk.ino());
      if (event.punches) return fs_.punch(ino, 0, event.offset, event.size);
      return fs_.zero(ino, 0, event.offset, event.size, event.keep_size);
    }
    case EventKind::allocate: {
      const Walk walk(fs_, event.path);
      return fs_.allocate(FS_TRY(walk.ino()), 0, event.offset, event.size, event.keep_size);
    }
    case EventKind::fsync: {
      if (file != nullptr) return fs_.fsync(file->ino, file->handle, event.data_only);
      const Walk walk(fs_, event.path);
      return fs_.fsync(FS_TRY(walk.ino()), 0, event.data_only);
    }
    case EventKind::create_unnamed:
      return make_unnamed(event);
    case EventKind::link:
      return link(event, file);
    case EventKind::syncfs:
      return fs_.sync_all();
    case EventKind::nothing:
      return {};
    default:
      return execute_on_names(event);
  }
}

Status Operator::execute_on_names(const Event& event) {
  switch (event.kind) {
    case EventKind::create:
    case EventKind::make_directory:
    case EventKind::symlink:
      return create(event);
    case EventKind::rename:
      return rename(event, RenameMode::replace);
    case EventKind::exchange:
      return rename(event, RenameMode::exchange);
    case EventKind::unlink: {
      const Walk parent(fs_, parent_of(event.path));
      return fs_.unlink(FS_TRY(parent.ino()), last_component(event.path));
    }
    case EventKind::remove_directory: {
      const Walk parent(fs_, parent_of(event.path));
      return fs_.remove_directory(FS_TRY(parent.ino()), last_component(event.path));
    }
    default:
      return ErrorCode::not_supported;
  }
}

Status Operator::create(const Event& event) {
  const Walk parent(fs_, parent_of(event.path));
  const Ino at = FS_TRY(parent.ino());
  const std::string name = last_component(event.path);
  NewFile file{event.mode, 0, 0, 0, 0};
  Attributes made;
  if (event.kind == EventKind::make_directory) {
    made = FS_TRY(fs_.make_directory(at, name, file));
  } else if (event.kind == EventKind::symlink) {
    made = FS_TRY(fs_.make_symlink(at, name, event.bytes, file));
  } else if (event.opens) {
    OpenFlags flags;
    flags.read = flags.write = true;
    const auto opened = FS_TRY(fs_.create(at, name, file, flags));
    fs_.release(opened.second);
    made = opened.first;
  } else {
    file.mode |= S_IFREG;
    made = FS_TRY(fs_.make_node(at, name, file));
  }
  created_[event.node] = made.ino;
  fs_.forget(made.ino, 1);
  return {};
}

Status Operator::make_unnamed(const Event& event) {
  const Walk parent(fs_, event.path);
  OpenFlags flags;
  flags.read = flags.write = true;
  const auto made =
      FS_TRY(fs_.create_unnamed(FS_TRY(parent.ino()), {event.mode, 0, 0, 0, 0}, flags));
  created_[event.node] = made.first.ino;
  unnamed_ = {event.node, made.first.ino, made.second, false};
  fs_.forget(made.first.ino, 1);
  return {};
}

std::optional<OpenFile> Operator::create_unnamed(Event event) {
  if (!perform(std::move(event))) return std::nullopt;
  return unnamed_;
}

Status Operator::link(const Event& event, const OpenFile* file) {
  const Walk source(fs_, file == nullptr ? event.path : "/");
  const Walk parent(fs_, parent_of(event.new_path));
  const Ino ino = file != nullptr ? file->ino : FS_TRY(source.ino());
  const Attributes linked =
      FS_TRY(fs_.link(ino, FS_TRY(parent.ino()), last_component(event.new_path)));
  fs_.forget(linked.ino, 1);
  return {};
}

Ino Operator::ino_of(NodeId node) const {
  const auto found = created_.find(node);
  return found != created_.end() ? found->second : Ino(node);
}

Status Operator::rename(const Event& event, RenameMode mode) {
  const Walk parent(fs_, parent_of(event.path));
  const Walk new_parent(fs_, parent_of(event.new_path));
  const NewFile whiteout;
  return fs_.rename(FS_TRY(parent.ino()), last_component(event.path), FS_TRY(new_parent.ino()),
                    last_component(event.new_path), mode,
                    event.whiteout != 0 ? &whiteout : nullptr);
}

Status Operator::change(const Event& event, const AttributeChange& change) {
  const Walk file(fs_, event.path);
  FS_TRY(fs_.set_attributes(FS_TRY(file.ino()), change));
  return {};
}

// The answer comes from whichever thread finishes it.
Result<uint64_t> Operator::write_direct(Ino ino, HandleId handle, const Event& event) {
  Mutex mutex(LockRank::leaf, "direct write");
  CondVar there;
  std::optional<Result<uint64_t>> answer;
  fs_.write_direct(ino, handle, event.offset, payload_of(event.bytes),
                   {.sync = event.synchronous ? WriteSync::all : WriteSync::none},
                   [&](Result<uint64_t> written) {
                     MutexLock lock(mutex);
                     answer = std::move(written);
                     there.notify_all();
                   });
  MutexLock lock(mutex);
  while (!answer) there.wait(mutex);
  return std::move(*answer);
}

// A write may end short for want of space: then the event is that short one.
Status Operator::write(Event& event, const OpenFile* file) {
  const Walk walk(fs_, file == nullptr ? event.path : "/");
  const Ino ino = file != nullptr ? file->ino : FS_TRY(walk.ino());
  const uint64_t length = event.bytes.size();
  const HandleId handle = file != nullptr ? file->handle : 0;
  const WriteOrigin origin = event.times_follow ? WriteOrigin::kernel_cache : WriteOrigin::caller;
  const auto write_cached = [&] {
    return fs_.write(ino, handle, event.offset, payload_of(event.bytes), {.origin = origin});
  };
  const uint64_t done = FS_TRY(!event.copied_from.empty() ? copy(event, ino)
                               : event.direct             ? write_direct(ino, handle, event)
                                                          : write_cached());
  if (done == 0 || done > length) complain(event, fmt::format("wrote {} bytes", done));
  event.bytes.resize(std::min(done, length));
  return {};
}

Result<uint64_t> Operator::copy(const Event& event, Ino ino) {
  const Walk source(fs_, event.copied_from);
  return fs_.copy_range({FS_TRY(source.ino()), 0, event.copied_offset}, {ino, 0, event.offset},
                        event.bytes.size(), 0);
}

Result<OpenFile> Operator::open(const std::string& path, bool synchronous) {
  const Walk walk(fs_, path);
  OpenFlags flags;
  flags.read = flags.write = true;
  flags.sync = synchronous;
  OpenFile file;
  file.node = tree_.names.at(path);
  file.ino = FS_TRY(walk.ino());
  file.handle = FS_TRY(fs_.open_file(file.ino, flags));
  file.synchronous = synchronous;
  return file;
}

Status Operator::close(const OpenFile& file) {
  const Status status = fs_.flush(file.ino, file.handle);
  fs_.release(file.handle);
  return status;
}

void Operator::expect_not_empty(const std::string& directory) {
  const Walk parent(fs_, parent_of(directory));
  const auto ino = parent.ino();
  const Status removed =
      ino.ok() ? fs_.remove_directory(*ino, last_component(directory)) : Status(ino.error());
  if (!removed.ok() && removed.error().code() == ErrorCode::directory_not_empty) return;
  complain({.kind = EventKind::remove_directory, .path = directory}, "it is not empty");
}

void Operator::compare_contents(const std::string& path) {
  const Event event{.path = path};
  const Walk file(fs_, path);
  const auto ino = file.ino();
  if (!ino.ok()) return complain(event, "lookup: " + ino.error().message());
  const std::string& expected = tree_.nodes.at(tree_.names.at(path)).content;
  std::string found;
  const auto done = read_file(fs_, *ino, expected.size() + 100, found);
  if (!done.ok()) return complain(event, "read: " + done.error().message());
  if (found != expected) complain(event, "read what was not written");
}

}  // namespace stablefs::sim
