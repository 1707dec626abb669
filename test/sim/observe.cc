// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/observe.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <map>
#include <optional>

#include "check/check.h"
#include "device/memory_device.h"
#include "fs/file_system_impl.h"
#include "sim/camera.h"
#include "sim/watch_device.h"

namespace stablefs::sim {
namespace {

constexpr uint64_t kLongNs = 3600 * kNsPerSecond;
constexpr int kDepthMax = 3;
constexpr uint64_t kFileBytesMax = 1 << 20;

class Observer {
 public:
  explicit Observer(FileSystem& fs) : fs_(fs) {}

  Observation run() {
    const Status walked = walk(kRootIno, "/");
    if (!walked.ok()) found_.wrong = walked.error().message();
    for (const auto& [node, count] : links_) {
      if (count != linked_[node]) {
        complain(fmt::format("inode {} has {} links, {} names", node, linked_[node], count));
      }
    }
    return std::move(found_);
  }

 private:
  void complain(const std::string& text) {
    if (found_.wrong.empty()) found_.wrong = text;
  }

  Status walk(Ino directory, const std::string& path) {
    std::vector<DirectoryEntry> entries;
    FS_TRY(fs_.read_directory(directory, 0, false,
                              [&](const DirectoryEntry& entry, const Attributes*) {
                                entries.push_back(entry);
                                return true;
                              }));
    uint64_t subdirectories = 0;
    for (const DirectoryEntry& entry : entries) {
      if (entry.name == "." || entry.name == "..") continue;
      const Attributes attributes = FS_TRY(fs_.lookup(directory, entry.name));
      if (attributes.ino != entry.ino) complain(path + entry.name + ": two inodes");
      FS_TRY(add(attributes, path + entry.name));
      subdirectories += S_ISDIR(attributes.mode);
      fs_.forget(attributes.ino, 1);
    }
    const Attributes own = FS_TRY(fs_.get_attributes(directory));
    if (own.link_count != 2 + subdirectories) complain(path + ": wrong link count");
    return {};
  }

  Status add(const Attributes& attributes, const std::string& path) {
    const NodeId id = attributes.ino.value;
    found_.tree.names[path] = id;
    Node& node = found_.tree.nodes[id];
    node.mode = attributes.mode & 07777;
    FS_TRY(read_xattrs(attributes.ino, node));
    if (S_ISDIR(attributes.mode)) {
      node.type = NodeType::directory;
      return walk(attributes.ino, path + "/");
    }
    ++links_[id];
    linked_[id] = attributes.link_count;
    if (S_ISCHR(attributes.mode)) {
      node.type = NodeType::whiteout;
    } else if (S_ISLNK(attributes.mode)) {
      node.type = NodeType::symlink;
      node.target = FS_TRY(fs_.read_symlink(attributes.ino));
    } else if (path != std::string("/") + kFillerName && links_[id] == 1) {
      FS_TRY(read(attributes, path, node.content));
    }
    return {};
  }

  Status read_xattrs(Ino ino, Node& node) {
    for (const std::string& name : FS_TRY(fs_.list_xattrs(ino))) {
      const auto value = FS_TRY(fs_.get_xattr(ino, name));
      node.xattrs[name].assign(reinterpret_cast<const char*>(value.data()), value.size());
    }
    return {};
  }

  Status read(const Attributes& attributes, const std::string& path, std::string& content) {
    if (attributes.size_bytes > kFileBytesMax) {
      complain(fmt::format("{}: {} bytes", path, attributes.size_bytes));
      return {};
    }
    const auto done = read_file(fs_, attributes.ino, attributes.size_bytes + 1, content);
    if (!done.ok()) complain(path + ": " + done.error().message());
    if (done.ok() && *done != attributes.size_bytes) complain(path + ": short");
    return {};
  }

  FileSystem& fs_;
  Observation found_;
  std::map<NodeId, uint64_t> links_;   // names
  std::map<NodeId, uint64_t> linked_;  // link counts
};

}  // namespace

// How a read is split depends on the alignment of the memory, which must not depend on the heap.
Result<uint64_t> read_file(FileSystem& fs, Ino ino, uint64_t length_bytes, std::string& content) {
  AlignedBuffer buffer(blocks_for_bytes(length_bytes) * kBlockSize);
  const uint64_t done_bytes = FS_TRY(fs.read(ino, 0, 0, buffer.span().first(length_bytes)));
  content.assign(reinterpret_cast<const char*>(buffer.data()), done_bytes);
  return done_bytes;
}

Observation observe(FileSystem& fs) {
  return Observer(fs).run();
}

std::string Recovery::check(const MemoryImage& image, const char* when) {
  MemoryDevice device(image);
  std::string said;
  NullLogger logger;
  CheckOptions options;
  options.report = [&said](const Problem& problem) {
    if (problem_severity(problem.id) == Severity::error) said += "\n  " + problem.text();
  };
  const auto report = check_filesystem(device, options, clock_, logger);
  if (!report.ok()) return fmt::format("the check {}: {}", when, report.error().message());
  if (report->clean() && !report->incomplete) return "";
  return fmt::format("the check {} found{}", when, said);
}

Observation Recovery::recover(const MemoryImage& image, int depth) {
  const uint64_t digest = digest_of(image);
  states_.insert(digest);
  Prng prng(mix(seed_, digest));
  Observation found;
  // One of both: each costs as much as the mount.
  const bool check_before = prng.chance(2);
  if (check_before) found.wrong = check(image, "before the mount");
  if (!found.wrong.empty()) return found;

  MemoryDevice memory(image);
  const uint64_t time = 0;
  const bool nest = nest_ && depth < kDepthMax && prng.chance(depth == 0 ? 6 : 3);
  Camera camera(memory, time, {.seed = prng.next(), .one_in = 6, .shots_max = nest ? 2u : 0u});
  WatchDevice watch(memory);
  watch.on_event = [&camera](const DeviceRequest&, bool) { camera.on_event(); };
  NullLogger logger;
  FileSystemOptions options;
  options.clock = &clock_;
  options.logger = &logger;
  options.atime = AtimePolicy::noatime;
  options.writeback_delay_ns = options.commit_interval_ns = kLongNs;
  auto opened = FileSystem::open(watch, options);
  if (!opened.ok()) {
    found.wrong = "the mount failed: " + opened.error().message();
    return found;
  }
  static_cast<FileSystemImpl&>(**opened).drain_orphans();
  found = observe(**opened);
  const Status closed = (*opened)->close();
  if (!closed.ok() && found.wrong.empty()) found.wrong = "unmount: " + closed.error().message();
  opened->reset();
  if (found.wrong.empty() && !check_before) {
    found.wrong = check(memory.durable_image(), "after the unmount");
  }
  for (const Shot& shot : camera.shots()) {
    if (!found.wrong.empty()) break;
    ++nested_;
    const Observation again = recover(shot.image, depth + 1);
    if (!again.wrong.empty()) {
      found.wrong = fmt::format("in recovery, {}: {}", shot.text(), again.wrong);
    } else if (again.tree.names_text() != found.tree.names_text() ||
               again.tree.contents_text() != found.tree.contents_text()) {
      found.wrong = fmt::format("in recovery, {}: the next recovery shows\n{}{}instead of\n{}{}",
                                shot.text(), again.tree.names_text(), again.tree.contents_text(),
                                found.tree.names_text(), found.tree.contents_text());
    }
  }
  return found;
}

}  // namespace stablefs::sim
