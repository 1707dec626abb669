// SPDX-License-Identifier: GPL-2.0-or-later
// A second crash while the filesystem recovers from the first: whatever of the recovery reached the
// device, the next mount shows the very same tree, and it checks clean.
#include <catch2/catch.hpp>

#include "check/check.h"
#include "device/crash_images.h"
#include "device/overlay_device.h"
#include "device/recording_device.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr uint64_t kBlocks = 8192;

struct Quiet {
  SystemClock clock;
  NullLogger logger;
  FileSystemOptions options;
  Quiet() {
    options.clock = &clock;
    options.logger = &logger;
    options.atime = AtimePolicy::noatime;
    options.writeback_delay_ns = kNsPerMs;
    options.commit_interval_ns = kNsPerMs;
  }
};

std::unique_ptr<FileSystem> open(BlockDevice& device, Quiet& quiet) {
  auto fs = FileSystem::open(device, quiet.options);
  if (!fs.ok()) FAIL(fs.error().message());
  return std::move(*fs);
}

std::string contents_of(FileSystem& fs, const Attributes& file) {
  std::string bytes(file.size_bytes, '?');
  const auto done =
      fs.read(file.ino, 0, 0, std::as_writable_bytes(std::span(bytes.data(), bytes.size())));
  if (!done.ok()) return done.error().message();
  bytes.resize(*done);
  return std::to_string(bytes.size()) + " " + std::to_string(std::hash<std::string>{}(bytes));
}

// Names, inodes and contents; times may lag behind.
std::string tree_of(FileSystem& fs, Ino directory = kRootIno, const std::string& path = "") {
  std::map<std::string, Ino> entries;
  const Status listed =
      fs.read_directory(directory, 0, false, [&](const DirectoryEntry& entry, const Attributes*) {
        if (entry.name != "." && entry.name != "..") entries[entry.name] = entry.ino;
        return true;
      });
  if (!listed.ok()) return listed.error().message();
  std::string text;
  for (const auto& [name, ino] : entries) {
    const auto attributes = fs.get_attributes(ino);
    if (!attributes.ok()) return attributes.error().message();
    text += path + "/" + name + " " + std::to_string(ino.value) + " ";
    text += S_ISDIR(attributes->mode) ? "\n" + tree_of(fs, ino, path + "/" + name)
                                      : contents_of(fs, *attributes) + "\n";
  }
  return text;
}

class Workload {
 public:
  Workload(FileSystem& fs, uint64_t seed) : fs_(fs), prng_(seed) {}

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
  }

 private:
  std::string name() { return "n" + std::to_string(prng_.below(6)); }

  void step() {
    const uint64_t choice = prng_.below(10);
    if (choice < 5) return change_file();
    if (choice == 5) (void)fs_.unlink(kRootIno, name()).ok();
    if (choice == 6) (void)fs_.remove_directory(kRootIno, name()).ok();
    if (choice == 7) (void)fs_.rename(kRootIno, name(), kRootIno, name(), {}).ok();
    if (choice == 8 && prng_.chance(2)) (void)fs_.sync_all().ok();
    if (choice == 9) {
      const auto made = fs_.make_directory(kRootIno, name(), {0755, 0, 0, 0, 0});
      if (made.ok()) fs_.forget(made->ino, 1);
    }
  }

  void change_file() {
    const std::string chosen = name();
    auto found = fs_.lookup(kRootIno, chosen);
    if (!found.ok()) found = fs_.make_node(kRootIno, chosen, {S_IFREG | 0644, 0, 0, 0, 0});
    if (!found.ok()) return;
    if (S_ISREG(found->mode)) {
      AttributeChange change;
      change.size_bytes = prng_.below(30000);
      if (prng_.chance(4)) (void)fs_.set_attributes(found->ino, change).ok();
      const std::string text(1 + prng_.below(20000), static_cast<char>('a' + prng_.below(26)));
      (void)fs_.write(found->ino, 0, prng_.below(20000), TestFs::payload(text)).ok();
      if (prng_.chance(3)) (void)fs_.fsync(found->ino, 0, prng_.chance(2)).ok();
    }
    fs_.forget(found->ino, 1);
  }

  FileSystem& fs_;
  Prng prng_;
};

MemoryImage formatted() {
  MemoryDevice device(kBlocks);
  FormatOptions format;
  format.hash_seed = {1};
  REQUIRE(format_device(device, format).ok());
  return device.image();
}

IoLog record(const MemoryImage& base, uint64_t seed) {
  Quiet quiet;
  MemoryDevice memory(base);
  MemoryIoLog sink;
  RecordingDevice device(memory, sink);
  auto fs = open(device, quiet);
  Workload(*fs, seed).run(60);
  fs->stop();
  fs.reset();
  return {kBlocks, sink.events()};
}

std::string problems_on(BlockDevice& device, Quiet& quiet) {
  std::string said;
  CheckOptions options;
  options.verify_data = true;
  options.report = [&said](const Problem& problem) { said += problem.text() + "\n"; };
  const auto report = check_filesystem(device, options, quiet.clock, quiet.logger);
  if (!report.ok()) return report.error().message();
  return report->clean() ? "" : said + "not clean";
}

// Mounts the image; what it shows, and what mounting it sent to the device.
std::string recover(const MemoryImage& image, IoLog& log) {
  Quiet quiet;
  OverlayDevice overlay{ImageOverlay(image)};
  MemoryIoLog sink;
  RecordingDevice device(overlay, sink);
  auto fs = open(device, quiet);
  std::string tree = tree_of(*fs);
  fs->stop();
  fs.reset();
  log = {kBlocks, sink.events()};
  return tree;
}

}  // namespace

TEST_CASE("a crash during recovery at any moment of it changes nothing in what is recovered") {
  const MemoryImage base = formatted();
  uint64_t states = 0;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CAPTURE(seed);
    const IoLog log = record(base, seed);
    CrashImages first_crashes(log, base, {12, seed, false});
    while (const auto first = first_crashes.next()) {
      CAPTURE(first->id.text());
      const MemoryImage image = first->image.flatten();
      IoLog recovery;
      const std::string tree = recover(image, recovery);
      CrashImages second_crashes(recovery, image, {16, seed, false});
      while (const auto second = second_crashes.next()) {
        CAPTURE(second->id.text());
        Quiet quiet;
        OverlayDevice device(second->image);
        auto fs = open(device, quiet);
        CHECK(tree_of(*fs) == tree);
        CHECK(fs->close().ok());
        fs.reset();
        CHECK(problems_on(device, quiet) == "");
        ++states;
      }
    }
  }
  CHECK(states > 500);
}
