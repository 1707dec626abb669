// SPDX-License-Identifier: GPL-2.0-or-later
#include "fs_fault_run.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/prng.h"
#include "check/check.h"

namespace stablefs {
namespace {

BufferSlice payload(const std::string& text) {
  BufferSlice slice(blocks_for_bytes(text.size()) * kBlockSize);
  std::memcpy(slice.writable().data(), text.data(), text.size());
  return slice.slice(0, text.size());
}

// Without zeros, so that a hole is never taken for data.
std::string pattern(uint64_t seed, size_t length) {
  Prng prng(seed);
  std::string text(length, 0);
  for (char& c : text) c = static_cast<char>(1 + prng.below(255));
  return text;
}

Result<std::string> read_file(FileSystem& fs, Ino ino) {
  std::string out(128 << 10, '?');
  const uint64_t done =
      FS_TRY(fs.read(ino, 0, 0, std::as_writable_bytes(std::span(out.data(), out.size()))));
  out.resize(done);
  return out;
}

}  // namespace

FaultRun::FaultRun(const FaultSetup& setup, Clock& clock, Logger& logger)
    : clock_(clock),
      logger_(logger),
      memory_(setup.formatted, {.asynchronous = setup.asynchronous, .seed = setup.seed}),
      faulty_(memory_, {}) {
  options_.clock = &clock;
  options_.logger = &logger;
  options_.errors = setup.policy;
  options_.commit_interval_ns = 3600 * kNsPerSecond;
  options_.writeback_delay_ns = 1800 * kNsPerSecond;
  history_.emplace_back();
  directories_[""] = kRootIno;
}

FaultRun::~FaultRun() {
  if (fs_) fs_->stop();
}

Status FaultRun::mount() {
  fs_ = FS_TRY(FileSystem::open(faulty_, options_));
  return {};
}

bool FaultRun::succeeded(const Status& status) {
  ++(status.ok() ? acknowledged_ : refused_);
  return status.ok();
}

// --- the operations: done, and noted in the model when answered well

Ino FaultRun::parent_of(const std::string& path) const {
  const size_t slash = path.rfind('/');
  const auto found = directories_.find(slash == std::string::npos ? "" : path.substr(0, slash));
  return found == directories_.end() ? Ino(0) : found->second;
}

std::string leaf_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

void FaultRun::name_added(const std::string& path, int file) {
  Names next = names();
  next[path] = file;
  note_names(next);
}

void FaultRun::create(const std::string& path) {
  if (parent_of(path) == Ino(0)) return;
  OpenFlags flags;
  flags.read = flags.write = true;
  auto created = fs_->create(parent_of(path), leaf_of(path), {S_IFREG | 0600, 0, 0, 0, 0}, flags);
  if (!succeeded(created.ok() ? Status() : created.error())) return;
  const int file = static_cast<int>(files_.size());
  files_.push_back({.ino = created->first.ino, .versions = {""}});
  handles_[file] = created->second;
  name_added(path, file);
}

void FaultRun::make_directory(const std::string& path) {
  auto made = fs_->make_directory(parent_of(path), leaf_of(path), {0700, 0, 0, 0, 0});
  if (!succeeded(made.ok() ? Status() : made.error())) return;
  directories_[path] = made->ino;
  name_added(path, -1);
}

void FaultRun::write(const std::string& path, uint64_t offset, const std::string& text) {
  if (!names().contains(path)) return;
  File& file = files_[static_cast<size_t>(names()[path])];
  auto done = fs_->write(file.ino, handles_[names()[path]], offset, payload(text));
  file.uncertain |= !done.ok();
  if (!succeeded(done.ok() ? Status() : done.error())) return;
  std::string content = file.now();
  if (content.size() < offset + *done) content.resize(offset + *done, 0);
  content.replace(offset, *done, text.substr(0, *done));
  file.versions.push_back(content);
}

void FaultRun::truncate(const std::string& path, uint64_t size) {
  if (!names().contains(path)) return;
  File& file = files_[static_cast<size_t>(names()[path])];
  AttributeChange change;
  change.size_bytes = size;
  auto done = fs_->set_attributes(file.ino, change);
  // What fails may have happened in part: then either is right.
  file.uncertain |= !done.ok();
  if (!succeeded(done.ok() ? Status() : done.error())) return;
  std::string content = file.now();
  content.resize(size, 0);
  file.versions.push_back(content);
}

void FaultRun::fsync(const std::string& path) {
  if (!names().contains(path)) return;
  const int index = names()[path];
  File& file = files_[static_cast<size_t>(index)];
  if (!succeeded(fs_->fsync(file.ino, handles_[index], true))) return;
  file.versions.erase(file.versions.begin(), file.versions.end() - 1);
  synced_names();
}

void FaultRun::sync_all() {
  if (!succeeded(fs_->sync_all())) return;
  for (File& file : files_) file.versions.erase(file.versions.begin(), file.versions.end() - 1);
  synced_names();
}

void FaultRun::rename(const std::string& from, const std::string& to) {
  if (!names().contains(from)) return;
  if (!succeeded(fs_->rename(parent_of(from), leaf_of(from), parent_of(to), leaf_of(to),
                             RenameMode::replace))) {
    return;
  }
  Names next = names();
  next[to] = next[from];
  next.erase(from);
  note_names(next);
}

void FaultRun::unlink(const std::string& path) {
  if (!names().contains(path)) return;
  if (!succeeded(fs_->unlink(parent_of(path), leaf_of(path)))) return;
  Names next = names();
  next.erase(path);
  note_names(next);
}

void FaultRun::checkpoint() {
  if (succeeded(fs_->store().checkpoint())) synced_names();
}

void FaultRun::read(const std::string& path) {
  if (!names().contains(path)) return;
  const File& file = files_[static_cast<size_t>(names()[path])];
  const auto content = read_file(*fs_, file.ino);
  if (!content.ok() || file.uncertain) return;
  if (*content != file.now()) complain("reading " + path + " gives something else than written");
}

void FaultRun::fill_up_to(uint64_t free_blocks) {
  create("full");
  uint64_t blocks = 0;
  const std::string text = pattern(99, 16 * kBlockSize);
  const auto put = [&](size_t length) {
    File& file = files_.back();
    auto done = fs_->write(file.ino, 0, blocks * kBlockSize, payload(text.substr(0, length)));
    if (done.ok()) blocks += *done / kBlockSize;
    return done.ok() && *done == length;
  };
  while (put(text.size())) {
  }
  while (put(kBlockSize)) {
  }
  AttributeChange change;
  change.size_bytes = (blocks - std::min(blocks, free_blocks)) * kBlockSize;
  if (!fs_->set_attributes(files_.back().ino, change).ok()) complain("cannot be filled");
  // What it holds is of no interest, only the room it takes.
  files_.back().versions = {std::string(*change.size_bytes, 0)};
  files_.back().opaque = true;
  sync_all();
}

void FaultRun::run_workload() {
  make_directory("d");
  create("a");
  write("a", 0, pattern(1, 3 * kBlockSize + 100));
  fsync("a");
  create("b");
  write("b", 0, pattern(2, 20000));
  write("a", kBlockSize + 17, pattern(3, 5000));
  write("a", 12388, pattern(4, 9000));
  fsync("a");
  fsync("a");
  rename("b", "d/b");
  sync_all();
  create("c");
  write("c", 0, pattern(5, 8192));
  rename("c", "a");
  fsync("a");
  truncate("d/b", 5000);
  truncate("d/b", 12000);
  write("d/b", 11000, pattern(6, 30000));
  fsync("d/b");
  checkpoint();
  create("x");
  write("x", 0, pattern(7, 40000));
  sync_all();
  unlink("x");
  write("d/b", 4096, pattern(8, 8192));
  read("d/b");
  read("a");
  fsync("d/b");
  checkpoint();
  create("y");
  write("y", 0, pattern(9, 4096));
  fsync("y");
  write("y", 100, pattern(10, 100));
  write("a", 0, pattern(11, 4096));
  read("a");
  read("y");
}

void FaultRun::stop() {
  fs_->stop();
  fs_.reset();
}

void FaultRun::refuse_after_error() {
  const std::string expected = [this] {
    if (state_ == HealthState::aborted) return "shut_down";
    return health_allows(Activity::change, state_) ? "" : "read_only_after_error";
  }();
  if (expected.empty()) return;
  const auto made = fs_->make_node(kRootIno, "late", {S_IFREG | 0600, 0, 0, 0, 0});
  if (made.ok() || made.error().name() != expected) complain("a name is made after the error");
  for (const auto& [path, index] : names()) {
    if (index < 0) continue;
    const File& file = files_[static_cast<size_t>(index)];
    const auto written = fs_->write(file.ino, 0, 0, payload("late"));
    if (written.ok() || written.error().name() != expected) {
      complain("a write after the error to " + path);
    }
    if (health_allows(Activity::commit, state_)) continue;
    for (int i = 0; i < 2; ++i) {
      if (fs_->fsync(file.ino, handles_[index], false).ok()) {
        complain("fsync of " + path + " succeeds after the error");
      }
    }
    if (!fs_->flush(file.ino, handles_[index]).ok() && state_ != HealthState::aborted) {
      complain(path + " is told of the error twice");
    }
  }
}

void FaultRun::finish() {
  state_ = fs_->health()->state();
  refuse_after_error();
  const bool had_failed = !health_allows(Activity::change, state_);
  const Status closed = fs_->close();
  state_ = fs_->health()->cause() ? fs_->health()->cause()->state : HealthState::healthy;
  closed_well_ = closed.ok();
  if (closed.ok()) {
    if (had_failed) complain("unmounted well after an error");
    for (File& file : files_) file.versions.erase(file.versions.begin(), file.versions.end() - 1);
    synced_names();
  }
  fs_.reset();
}

// --- the judgement

Status FaultRun::read_tree(FileSystem& fs, Ino directory, const std::string& prefix, Tree& tree) {
  std::vector<DirectoryEntry> entries;
  FS_TRY(fs.read_directory(directory, 0, false, [&](const DirectoryEntry& entry, auto*) {
    if (entry.name != "." && entry.name != "..") entries.push_back(entry);
    return true;
  }));
  for (const DirectoryEntry& entry : entries) {
    const std::string path = prefix + entry.name;
    if (entry.type == S_IFDIR >> 12) {
      tree[path] = "/";
      FS_TRY(read_tree(fs, entry.ino, path + "/", tree));
    } else {
      tree[path] = FS_TRY(read_file(fs, entry.ino));
    }
  }
  return {};
}

// Block by block from one of the versions; the size not beyond any of them.
bool FaultRun::content_possible(const File& file, const std::string& found) {
  const auto& versions = file.versions;
  if (file.opaque) return true;
  if (versions.size() == 1 && !file.uncertain) return found == versions[0];
  size_t size_max = 0;
  for (const std::string& version : versions) size_max = std::max(size_max, version.size());
  if (!file.uncertain && found.size() > size_max) return false;
  for (size_t at = 0; at < found.size(); at += kBlockSize) {
    const std::string block = found.substr(at, kBlockSize);
    const bool known = std::any_of(versions.begin(), versions.end(), [&](const auto& version) {
      std::string candidate = at < version.size() ? version.substr(at, block.size()) : "";
      candidate.resize(block.size(), 0);
      return candidate == block;
    });
    if (!known) return false;
  }
  return true;
}

std::string FaultRun::compare(const Names& names, const Tree& tree) const {
  for (const auto& [path, file] : names) {
    const auto found = tree.find(path);
    if (found == tree.end()) return path + " is missing";
    if (file < 0) continue;
    if (!content_possible(files_[static_cast<size_t>(file)], found->second)) {
      return path + " has a content it never had since it was synced";
    }
  }
  for (const auto& [path, content] : tree) {
    if (!names.contains(path)) return path + " should not be there";
  }
  return "";
}

// Mounts, reads all, unmounts, checks.
bool FaultRun::mount_and_read(const MemoryImage& image, Tree& tree) {
  MemoryDevice device(image);
  FileSystemOptions options;
  options.clock = &clock_;
  options.logger = &logger_;
  auto mounted = FileSystem::open(device, options);
  if (!mounted.ok()) {
    complain("does not mount: " + mounted.error().message());
    return false;
  }
  const Status read = read_tree(**mounted, kRootIno, "", tree);
  if (!read.ok()) complain("cannot be read: " + read.error().message());
  const Status closed = (*mounted)->close();
  if (!closed.ok()) complain("does not unmount: " + closed.error().message());
  mounted->reset();
  CheckOptions check;
  check.verify_data = true;
  check.report = [this](const Problem& problem) { complain("fsck: " + problem.text()); };
  const auto report = check_filesystem(device, check, clock_, logger_);
  if (!report.ok()) complain("fsck: " + report.error().message());
  return read.ok();
}

void FaultRun::expect_healthy_mount(const MemoryImage& image) {
  Tree tree;
  if (mount_and_read(image, tree) && tree.empty()) complain("everything is gone");
}

void FaultRun::judge(const MemoryImage& image) {
  Tree tree;
  if (!mount_and_read(image, tree)) return;
  std::string why = "no state of the names is allowed";
  for (size_t at = history_.size(); why != "" && at > floor_; --at) {
    why = compare(history_[at - 1], tree);
  }
  // Said about the oldest state allowed.
  if (why != "") complain("after the mount: " + why);
}

}  // namespace stablefs
