// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/exhaustive.h"

#include <fmt/format.h>

#include <map>
#include <optional>

#include "base/scheduler.h"
#include "sim/camera.h"
#include "sim/crash_states.h"
#include "sim/lazy_device.h"
#include "sim/observe.h"
#include "sim/operator.h"
#include "sim/watch_device.h"
#include "sim/workload.h"

namespace stablefs::sim {
namespace {

constexpr uint64_t kLongNs = 3600 * kNsPerSecond;
constexpr NodeId kNewNode = uint64_t{1} << 32;
constexpr NodeId kWhiteout = uint64_t{1} << 33;
constexpr const char* kFile = "/t0_file";      // 5000 bytes, synced
constexpr const char* kOther = "/a/t0_other";  // 9000 bytes, synced
constexpr const char* kDirectory = "/t0_dir";  // empty
constexpr const char* kNew = "/t0_new";        // made by an operation

// One letter of the alphabet. Nothing: it makes no sense in this tree.
struct Letter {
  const char* name;
  Event event;
  uint64_t length = 0;  // of a write
  bool append = false;
};

Letter letter(const char* name, EventKind kind, const char* path, const char* new_path = "") {
  return {name, {.kind = kind, .path = path, .new_path = new_path, .mode = 0644}};
}
Letter write(const char* name, const char* path, uint64_t offset, uint64_t length) {
  return {name, {.kind = EventKind::write, .path = path, .offset = offset}, length, false};
}
Letter append(const char* name, const char* path, uint64_t length) {
  return {name, {.kind = EventKind::write, .path = path}, length, true};
}
Letter truncate(const char* name, const char* path, uint64_t size) {
  return {name, {.kind = EventKind::truncate, .path = path, .size = size}};
}

Letter whiteout(const char* name, const char* path, const char* new_path) {
  return {name,
          {.kind = EventKind::rename, .path = path, .new_path = new_path, .whiteout = kWhiteout}};
}

Letter set_xattr(const char* name, const char* path, uint64_t length) {
  return {name,
          {.kind = EventKind::set_xattr,
           .path = path,
           .bytes = std::string(length, 'x'),
           .xattr = "user.x"}};
}

Letter range(const char* name, Event event, uint64_t offset, uint64_t length) {
  event.path = kFile;
  event.offset = offset;
  event.size = length;
  return {name, event};
}
const Event kPunch{.kind = EventKind::zero, .keep_size = true, .punches = true};
const Event kZero{.kind = EventKind::zero};
const Event kAllocate{.kind = EventKind::allocate};
const Event kAllocateKeepSize{.kind = EventKind::allocate, .keep_size = true};

Letter copy(const char* name, const char* from, const char* path, uint64_t offset,
            uint64_t length) {
  Event event{.kind = EventKind::write, .path = path, .offset = offset};
  event.copied_from = from;
  return {name, event, length, false};
}

const std::vector<Letter>& alphabet() {
  static const std::vector<Letter> letters = {
      letter("create", EventKind::create, kNew),
      write("write a byte", kFile, 10, 1),
      write("write a block", kFile, 0, kBlockSize),
      write("write across a block", kFile, kBlockSize - 100, 300),
      write("write into the new file", kNew, 0, 3000),
      write("write beyond the end", kFile, 2 * kBlockSize + 7, 100),
      append("append a byte", kFile, 1),
      append("append blocks", kFile, 2 * kBlockSize),
      range("punch the first block", kPunch, 0, kBlockSize),
      range("punch from the middle on", kPunch, 100, 2 * kBlockSize),
      range("zero across the end", kZero, 4900, 5000),
      range("zero the first block", kZero, 0, kBlockSize),
      range("allocate behind the end", kAllocateKeepSize, 100, 3 * kBlockSize),
      range("allocate and grow", kAllocate, 5000, 2 * kBlockSize),
      copy("copy over the other", kFile, kOther, 0, 5000),
      copy("copy the other's end into the new file", kOther, kNew, 8192, 9000),
      truncate("truncate down", kFile, 4500),
      truncate("truncate to a block", kFile, kBlockSize),
      truncate("truncate to nothing", kFile, 0),
      truncate("truncate up", kFile, 9000),
      letter("rename", EventKind::rename, kFile, "/a/t0_moved"),
      letter("rename over", EventKind::rename, kFile, kOther),
      whiteout("rename over, leaving a whiteout", kFile, kOther),
      letter("rename the new file over", EventKind::rename, kNew, kFile),
      letter("rename a directory", EventKind::rename, kDirectory, "/b/t0_dir"),
      letter("link", EventKind::link, kFile, "/b/t0_link"),
      letter("unlink", EventKind::unlink, kFile),
      letter("unlink the other", EventKind::unlink, kOther),
      letter("mkdir", EventKind::make_directory, "/t0_dir2"),
      letter("rmdir", EventKind::remove_directory, kDirectory),
      {"symlink", {.kind = EventKind::symlink, .path = "/t0_symlink", .bytes = "target"}},
      set_xattr("set an attribute", kFile, 2500),
      set_xattr("set a shorter attribute", kFile, 10),
      letter("fsync the file", EventKind::fsync, kFile),
      letter("fsync a directory", EventKind::fsync, "/"),
      letter("sync", EventKind::syncfs, ""),
  };
  return letters;
}

const std::vector<Letter>& persistence_points() {
  static const std::vector<Letter> letters = {
      letter("fsync a directory", EventKind::fsync, "/"),
      letter("fsync the file", EventKind::fsync, kFile),
      letter("fsync the other file", EventKind::fsync, kOther),
      letter("fsync the new file", EventKind::fsync, kNew),
      letter("sync", EventKind::syncfs, ""),
      letter("unmount", EventKind::nothing, ""),
  };
  return letters;
}

// The event as it would be in this tree; nothing when it cannot be.
std::optional<Event> event_in(const Tree& tree, const Letter& letter, uint64_t number) {
  Event event = letter.event;
  const bool makes = event.kind == EventKind::create || event.kind == EventKind::symlink ||
                     event.kind == EventKind::make_directory;
  const bool names_one = !event.path.empty() && event.path != "/";
  const auto at = tree.names.find(event.path);
  if (names_one && makes != (at == tree.names.end())) return std::nullopt;
  if (makes) event.node = kNewNode + number;
  if (!makes && names_one) event.node = at->second;
  const bool has_data = event.kind == EventKind::write || event.kind == EventKind::zero ||
                        event.kind == EventKind::truncate || event.kind == EventKind::allocate ||
                        event.kind == EventKind::set_xattr;
  if (has_data && tree.nodes.at(event.node).type != NodeType::file) return std::nullopt;
  if (event.kind == EventKind::rename) event.replaces = tree.names.contains(event.new_path);
  if (event.whiteout != 0) event.whiteout += number;
  const bool taken = event.kind == EventKind::link && tree.names.contains(event.new_path);
  if (taken) return std::nullopt;
  if (!event.copied_from.empty()) {
    const auto source = tree.names.find(event.copied_from);
    if (source == tree.names.end() || source->second == event.node) return std::nullopt;
    event.bytes = tree.nodes.at(source->second).content.substr(0, letter.length);
    if (event.bytes.empty()) return std::nullopt;
  } else if (event.kind == EventKind::write) {
    Prng prng(number + 1);
    event.bytes = random_bytes(prng, letter.length);
    if (letter.append) event.offset = tree.nodes.at(event.node).content.size();
  }
  return event;
}

// Time stands still: runs that do the same leave the same bytes.
class StillClock final : public Clock {
 public:
  uint64_t monotonic_ns() override { return kNsPerSecond; }
  Timestamp wall_time() override { return {1'700'000'000, 0}; }
};

std::unique_ptr<FileSystem> mount(BlockDevice& device, Clock& clock, Logger& logger, bool eager) {
  FileSystemOptions options;
  options.clock = &clock;
  options.logger = &logger;
  options.atime = AtimePolicy::noatime;
  options.writeback_delay_ns = eager ? 0 : kLongNs;
  options.commit_interval_ns = kLongNs;
  auto opened = FileSystem::open(device, options);
  FS_ASSERT(opened.ok());
  return std::move(opened).value();
}

// One workload under way: keeps every crash state with the moments it can be of.
class SmallRun {
 public:
  SmallRun(const MemoryImage& start, const Tree& tree)
      : device_(start), history_(tree, 1), recovery_(clock_, 1, false) {}

  SmallReport run(const SmallWorkload& workload) {
    {
      LazyDevice lazy(device_, clock_, 1, workload.eager ? 1 : 0);
      WatchDevice watch(lazy);
      auto fs = mount(watch, clock_, logger_, workload.eager);
      ++time_;
      watch.on_event = [this](const DeviceRequest& request, bool completed) {
        if (!completed) see(request);
      };
      Operator op(*fs, history_.base(0), history_.logs()[0], time_, [this] { enumerate(nullptr); });
      uint64_t number = 0;
      for (const uint64_t n : workload.operations) perform(op, alphabet()[n], ++number);
      persist(*fs, op, persistence_points()[workload.persistence]);
      enumerate(nullptr);
      watch.on_event = nullptr;
      fs->stop();
      if (!op.complaint().empty()) report_.failure = op.complaint();
    }
    judge();
    if (!report_.failure.empty()) {
      report_.failure = workload.text() + ": " + report_.failure + "\n" + history_.text();
    }
    return std::move(report_);
  }

 private:
  struct State {
    MemoryImage image;
    std::vector<Cut> cuts;
  };

  void perform(Operator& op, const Letter& letter, uint64_t number) {
    if (const auto event = event_in(op.tree(), letter, number)) op.perform(*event);
  }

  void persist(FileSystem& fs, Operator& op, const Letter& letter) {
    if (letter.event.kind != EventKind::nothing) return perform(op, letter, 0);
    // Unmounting is a sync, and more.
    EventLog& log = history_.logs()[0];
    log.push_back({.kind = EventKind::syncfs, .invoked = ++time_});
    if (!fs.close().ok()) report_.failure = "the unmount failed";
    log.back().replied = ++time_;
  }

  // A flush ends an epoch; a write with FUA may itself be torn or lost while it is under way.
  void see(const DeviceRequest& request) {
    if (request.op == DeviceOp::flush) enumerate(nullptr);
    if (request.op == DeviceOp::write && request.fua) enumerate(&request);
  }

  void enumerate(const DeviceRequest* under_way) {
    VolatileCache cache = device_.crash_state();
    if (under_way != nullptr) {
      AlignedBuffer bytes(under_way->length_blocks * kBlockSize);
      copy_from_memory(under_way->memory, 0, bytes.span());
      std::vector<VolatileCache::PageRef> pages;
      for (uint64_t i = 0; i < under_way->length_blocks; ++i) {
        pages.push_back(make_page(bytes.span().subspan(i * kBlockSize, kBlockSize)));
      }
      cache.write(under_way->lba, std::move(pages), false);
    }
    for_each_crash_state(cache, tear_, [this](MemoryImage image) {
      const uint64_t digest = digest_of(image);
      auto [state, is_new] = states_.try_emplace(digest, State{std::move(image), {}});
      state->second.cuts.push_back({time_ + 1, time_ + 1});
    });
  }

  void judge() {
    for (const auto& [digest, state] : states_) {
      if (!report_.failure.empty()) return;
      const Observation found = recovery_.recover(state.image);
      report_.states.insert(digest);
      for (const Cut& cut : state.cuts) {
        ++report_.crashes;
        auto wrong = found.wrong.empty() ? history_.judge(cut, found.tree)
                                         : std::optional<std::string>(found.wrong);
        if (!wrong) continue;
        report_.failure = fmt::format("crash at time {}: {}", cut.before, *wrong);
        return;
      }
    }
  }

  StillClock clock_;
  NullLogger logger_;
  MemoryDevice device_;
  History history_;
  Recovery recovery_;
  Prng tear_{1};
  uint64_t time_ = 0;
  std::map<uint64_t, State> states_;
  SmallReport report_;
};

}  // namespace

std::string SmallWorkload::text() const {
  std::string text;
  for (const uint64_t n : operations) text += std::string(alphabet()[n].name) + ", ";
  text += persistence_points()[persistence].name;
  return text + (eager ? " (written back at once)" : "");
}

Exhaustive::Exhaustive(const Environment& environment) : start_(environment.image(false)) {
  Scheduler scheduler(1);
  scheduler.run([this] {
    StillClock clock;
    NullLogger logger;
    MemoryDevice device(start_);
    auto fs = mount(device, clock, logger, false);
    EventLog log;
    uint64_t time = 0;
    Operator op(*fs, Tree(), log, time, {});
    Prng prng(7);
    const auto make = [&](const char* path, NodeId node, uint64_t length) {
      op.perform({.kind = EventKind::create, .path = path, .node = node, .mode = 0600});
      op.perform({.kind = EventKind::write,
                  .path = path,
                  .node = node,
                  .bytes = random_bytes(prng, length)});
    };
    make(kFile, kNewNode + 1, 5000);
    make(kOther, kNewNode + 2, 9000);
    op.perform({.kind = EventKind::make_directory, .path = kDirectory, .mode = 0755});
    FS_ASSERT(op.complaint().empty());
    FS_ASSERT(fs->close().ok());
    fs.reset();
    start_ = device.image();
    Recovery recovery(clock, 1, false);
    tree_ = recovery.recover(start_).tree;
  });
  const uint64_t letters = alphabet().size();
  for (uint64_t persistence = 0; persistence < persistence_points().size(); ++persistence) {
    for (const bool eager : {false, true}) {
      for (uint64_t one = 0; one < letters; ++one) {
        workloads_.push_back({{one}, persistence, eager});
        for (uint64_t two = 0; two < letters; ++two) {
          workloads_.push_back({{one, two}, persistence, eager});
        }
      }
    }
  }
}

SmallReport Exhaustive::run(const SmallWorkload& workload) const {
  uint64_t seed = workload.persistence;
  for (const uint64_t n : workload.operations) seed = mix(seed, n);
  Scheduler scheduler(workload.eager ? seed : 1);
  SmallReport report;
  scheduler.run([&] {
    SmallRun run(start_, tree_);
    report = run.run(workload);
  });
  return report;
}

}  // namespace stablefs::sim
