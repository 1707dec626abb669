// SPDX-License-Identifier: GPL-2.0-or-later
// Crashes aimed at one hole each: the order of a commit, the reuse of blocks, histories that end
// and begin again. Every script is hit before each of its device operations, in every way that
// matters.
#include <catch2/catch.hpp>

#include "crash_points.h"
#include "format/superblock.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr uint64_t kDeviceBlocks = 4096;
constexpr int kTornImages = 3;

// One block of text that tells version and file.
std::string version(char file, size_t number) {
  std::string text(kBlockSize, static_cast<char>('0' + number % 10));
  text[0] = file;
  return text;
}

// A filesystem whose device is watched.
class Watched {
 public:
  Watched() : memory_(kDeviceBlocks), device(memory_) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    REQUIRE(name_of(format_device(memory_, format)) == "ok");
    mount();
  }
  explicit Watched(const MemoryImage& image) : memory_(image), device(memory_) {}
  ~Watched() { stop(); }

  void mount() {
    FileSystemOptions options;
    options.clock = &clock_;
    options.logger = &logger_;
    options.commit_interval_ns = 3600 * kNsPerSecond;
    options.writeback_delay_ns = 3600 * kNsPerSecond;
    options.atime = AtimePolicy::noatime;
    auto opened = FileSystem::open(device, options);
    if (!opened.ok()) FAIL(opened.error().message());
    fs = std::move(*opened);
  }
  // As kill -9 does: what is in the device's cache stays there.
  void stop() {
    if (!fs) return;
    fs->stop();
    fs.reset();
  }
  Ino make(const std::string& name) {
    auto made = fs->make_node(kRootIno, name, {S_IFREG | 0644, 0, 0, 0, 0});
    if (!made.ok()) FAIL(made.error().message());
    return made->ino;
  }
  void write(Ino ino, const std::string& text, uint64_t offset = 0) {
    auto written = fs->write(ino, 0, offset, TestFs::payload(text));
    if (!written.ok()) FAIL(written.error().message());
    REQUIRE(*written == text.size());
  }
  void resize(Ino ino, uint64_t size) {
    AttributeChange change;
    change.size_bytes = size;
    REQUIRE(name_of(fs->set_attributes(ino, change)) == "ok");
  }
  void zero(Ino ino, uint64_t offset, uint64_t length) {
    REQUIRE(name_of(fs->zero(ino, 0, offset, length, true)) == "ok");
  }
  void fsync(Ino ino) { REQUIRE(name_of(fs->fsync(ino, 0, false)) == "ok"); }
  // Nothing of its data or names need be durable afterwards.
  void write_back(Ino ino) { REQUIRE(name_of(fs->flush(ino, 0)) == "ok"); }

  std::optional<std::string> read(const std::string& name) {
    auto found = fs->lookup(kRootIno, name);
    if (!found.ok()) return std::nullopt;
    std::string out(found->size_bytes, '?');
    auto done =
        fs->read(found->ino, 0, 0, std::as_writable_bytes(std::span(out.data(), out.size())));
    if (!done.ok()) return "error: " + done.error().message();
    out.resize(*done);
    return out;
  }
  // So full that only overwrites find room: freed blocks are the next to be used.
  void fill() {
    const Ino filler = make("filler");
    uint64_t size = 0;
    while (true) {
      auto written = fs->write(filler, 0, size, TestFs::payload(std::string(65536, 'f')));
      if (!written.ok()) break;
      size += *written;
      fsync(filler);
    }
  }

  // Everything acknowledged up to now counts as `count` versions.
  void acknowledge(size_t count) { device.acknowledged = count; }

  std::string fsck() {
    std::string said;
    CheckOptions options;
    options.verify_data = true;
    options.report = [&said](const Problem& problem) { said += problem.text() + "\n"; };
    auto report = check_filesystem(memory_, options, clock_, logger_);
    return report.ok() ? said : report.error().message();
  }

 private:
  SystemClock clock_;
  NullLogger logger_;
  MemoryDevice memory_;

 public:
  CrashPointDevice device;
  std::unique_ptr<FileSystem> fs;
};

using Verify = std::function<void(Watched& recovered, size_t acknowledged)>;

void recover_and_verify(const MemoryImage& image, size_t acknowledged, const Verify& verify) {
  Watched recovered(image);
  recovered.mount();
  verify(recovered, acknowledged);
  REQUIRE(name_of(recovered.fs->close()) == "ok");
  recovered.fs.reset();
  REQUIRE(recovered.fsck() == "");
}

// Hits the script at every point; returns the number of images.
size_t crash_everywhere(Watched& watched, const Verify& verify) {
  watched.device.note();
  size_t images = 0, at = 0;
  for (const CrashPoint& point : watched.device.stop_watching()) {
    INFO("before operation " << at << ", acknowledged " << point.acknowledged);
    for_each_crash_image(point.cache, ++at, kTornImages, [&](const MemoryImage& image) {
      ++images;
      recover_and_verify(image, point.acknowledged, verify);
    });
  }
  REQUIRE(images > 10);
  return images;
}

// The file shows one version, whole, and none older than what was acknowledged.
void check_version(Watched& t, const std::string& name, size_t acknowledged, size_t last) {
  const auto text = t.read(name);
  if (!text) {
    REQUIRE(acknowledged == 0);
    return;
  }
  if (text->empty() && acknowledged == 0) return;
  size_t found = 0;
  for (size_t v = last; v >= 1 && found == 0; --v) {
    if (*text == version(name[0], v)) found = v;
  }
  INFO(name << " acknowledged " << acknowledged << ", begins with " << text->substr(0, 8));
  REQUIRE(found >= std::max<size_t>(acknowledged, 1));
}

}  // namespace

TEST_CASE("mapping after mapping of a block, each acknowledged, its old blocks reused",
          "[fs][crash][long]") {
  Watched t;
  const Ino a = t.make("a"), b = t.make("b");
  t.write(a, version('a', 1));
  t.write(b, version('b', 1));
  t.fill();
  t.fsync(a);
  t.fsync(b);
  t.acknowledge(1);
  t.device.watching = true;
  for (size_t v = 2; v <= 7; ++v) {
    t.write(a, version('a', v));
    t.fsync(a);
    t.write(b, version('b', v));
    t.fsync(b);
    t.acknowledge(v);
  }
  crash_everywhere(t, [](Watched& recovered, size_t acknowledged) {
    check_version(recovered, "a", acknowledged, 7);
    check_version(recovered, "b", acknowledged, 7);
  });
}

TEST_CASE("a file is mapped, synced, unlinked, synced, and its blocks given to another",
          "[fs][crash]") {
  constexpr size_t kFiles = 4;
  Watched t;
  std::vector<Ino> files;
  for (size_t i = 0; i < kFiles; ++i) {
    files.push_back(t.make(std::to_string(i)));
    t.write(files.back(), version(static_cast<char>('0' + i), 1));
    t.fsync(files.back());
  }
  const Ino b = t.make("b");
  t.write(b, version('b', 1));
  t.fill();
  t.fsync(b);
  t.device.watching = true;
  for (size_t i = 0; i < kFiles; ++i) {
    REQUIRE(name_of(t.fs->unlink(kRootIno, std::to_string(i))) == "ok");
    t.fs->forget(files[i], 1);
    REQUIRE(name_of(t.fs->fsync(kRootIno, 0, false)) == "ok");
    t.acknowledge(2 * i + 1);
    t.write(b, version('b', i + 2));
    t.fsync(b);
    t.acknowledge(2 * i + 2);
  }
  crash_everywhere(t, [](Watched& recovered, size_t acknowledged) {
    check_version(recovered, "b", acknowledged / 2 + 1, kFiles + 1);
    for (size_t i = 0; i < kFiles; ++i) {
      INFO("file " << i << ", acknowledged " << acknowledged);
      const auto text = recovered.read(std::to_string(i));
      if (acknowledged >= 2 * i + 1) REQUIRE_FALSE(text);
      if (acknowledged < 2 * i) REQUIRE(text);
      if (text) REQUIRE(*text == version(static_cast<char>('0' + i), 1));
    }
  });
}

TEST_CASE("a history that was cut off never comes back into the one after it", "[fs][crash]") {
  Watched first;
  const Ino a = first.make("a");
  first.write(a, version('a', 1));
  first.fsync(a);
  first.acknowledge(1);
  first.device.watching = true;
  for (size_t v = 2; v <= 4; ++v) {
    first.write(a, version('a', v));
    first.write(first.make("lost" + std::to_string(v)), version('l', v));
    REQUIRE(name_of(first.fs->sync_all()) == "ok");
  }
  // Batches that arrived without their data, and all other ends of the first history.
  size_t which = 0;
  for (const CrashPoint& point : first.device.stop_watching()) {
    for_each_crash_image(point.cache, ++which, 1, [&](const MemoryImage& image) {
      if (++which % 7 != 0) return;
      Watched second(image);
      second.mount();
      const auto found = second.read("a");
      REQUIRE(found);
      const Ino n = second.make("new");
      second.write(n, version('n', 1));
      second.fsync(n);
      second.acknowledge(1);
      second.device.watching = true;
      second.write(n, version('n', 2));
      second.fsync(n);
      second.acknowledge(2);
      crash_everywhere(second, [&](Watched& recovered, size_t acknowledged) {
        check_version(recovered, "new", acknowledged, 2);
        REQUIRE(recovered.read("a") == found);
      });
    });
  }
}

TEST_CASE("crashes while recovery makes its own checkpoint, twice in a row", "[fs][crash]") {
  Watched t;
  const Ino a = t.make("a");
  for (size_t v = 1; v <= 3; ++v) {
    t.write(a, version('a', v));
    t.fsync(a);
  }
  t.device.note();
  const auto verify = [](Watched& recovered, size_t) { check_version(recovered, "a", 3, 3); };
  const CrashPoint synced = t.device.stop_watching().back();
  for_each_crash_image(synced.cache, 1, 1, [&](const MemoryImage& image) {
    Watched once(image);
    once.device.watching = true;
    once.mount();
    once.stop();
    size_t which = 0;
    for (const CrashPoint& point : once.device.stop_watching()) {
      for_each_crash_image(point.cache, ++which, 1, [&](const MemoryImage& again) {
        if (++which % 3 != 0) return;
        Watched twice(again);
        twice.device.watching = true;
        twice.mount();
        twice.stop();
        crash_everywhere(twice, verify);
      });
    }
  });
}

// Were a block that was zeroed written in place, or given to another file before that is durable,
// a foreign version would show.
TEST_CASE("zero-range of a written block, then a write into it", "[fs][crash][long]") {
  constexpr uint64_t kGapBlocks = 24, kOtherBlocks = 40;
  const bool synced_between = GENERATE(false, true);
  Watched t;
  // After a mount blocks are given out from the lowest free one on: those of the gap, then ours.
  const Ino gap = t.make("gap"), a = t.make("a"), behind = t.make("behind");
  t.write(gap, std::string(kGapBlocks * kBlockSize, 'g'));
  t.fsync(gap);
  t.write(a, version('a', 1));
  t.fsync(a);
  t.write(behind, std::string(8 * kBlockSize, 'b'));
  t.fsync(behind);
  t.resize(gap, 0);
  REQUIRE(name_of(t.fs->close()) == "ok");
  t.mount();
  t.acknowledge(1);
  t.device.watching = true;
  t.zero(a, 0, kBlockSize);
  if (synced_between) t.fsync(a);
  const Ino other = t.make("other");
  for (uint64_t i = 0; i < kOtherBlocks; ++i) {
    t.write(other, version('o', i), 2 * i * kBlockSize);
  }
  t.fsync(other);
  t.acknowledge(2);
  t.write(a, "small", 100);
  t.fsync(a);
  t.acknowledge(3);
  const std::string zeros(kBlockSize, '\0');
  std::string last = zeros;
  last.replace(100, 5, "small");
  crash_everywhere(t, [&](Watched& recovered, size_t acknowledged) {
    const auto text = recovered.read("a");
    REQUIRE(text);
    const bool allowed = (acknowledged < 2 && *text == version('a', 1)) ||
                         (acknowledged < 3 && *text == zeros) || *text == last;
    REQUIRE(allowed);
    if (acknowledged >= 2) {
      REQUIRE(recovered.read("other")->substr(0, kBlockSize) == version('o', 0));
    }
  });
}

// The edges are versions of their blocks, the middle is freed: each block old or new.
TEST_CASE("zero-range at odd offsets, beside dirty neighbours", "[fs][crash]") {
  Watched t;
  const Ino a = t.make("a");
  const std::string old(5 * kBlockSize, 'x');
  t.write(a, old);
  t.fill();
  t.fsync(a);
  t.device.watching = true;
  std::string dirty = old;
  dirty.replace(50, 3, "yyy").replace(4 * kBlockSize + 4000, 3, "yyy");
  t.write(a, "yyy", 50);
  t.write(a, "yyy", 4 * kBlockSize + 4000);
  std::string zeroed = dirty;
  std::fill(zeroed.begin() + 1000, zeroed.begin() + 4 * kBlockSize + 1000, '\0');
  t.zero(a, 1000, 4 * kBlockSize);
  t.fsync(a);
  t.acknowledge(1);
  crash_everywhere(t, [&](Watched& recovered, size_t acknowledged) {
    const auto text = recovered.read("a");
    REQUIRE(text);
    REQUIRE(text->size() == old.size());
    if (acknowledged == 1) REQUIRE(*text == zeroed);
    for (size_t at = 0; at < old.size(); at += kBlockSize) {
      const std::string block = text->substr(at, kBlockSize);
      INFO("block at " << at);
      const bool allowed = block == old.substr(at, kBlockSize) ||
                           block == dirty.substr(at, kBlockSize) ||
                           block == zeroed.substr(at, kBlockSize);
      REQUIRE(allowed);
    }
  });
}

TEST_CASE("a small synced write onto a page whose earlier whole rewrite was not synced",
          "[fs][crash]") {
  Watched t;
  const Ino a = t.make("a");
  t.write(a, version('a', 1));
  t.fsync(a);
  t.acknowledge(1);
  t.device.watching = true;
  const std::string rewritten = version('a', 2);
  t.write(a, rewritten);
  t.write_back(a);
  std::string expected = rewritten;
  expected.replace(100, 5, "small");
  t.write(a, "small", 100);
  t.fsync(a);
  t.acknowledge(2);
  crash_everywhere(t, [&](Watched& recovered, size_t acknowledged) {
    const auto text = recovered.read("a");
    REQUIRE(text);
    if (acknowledged == 2) REQUIRE(*text == expected);
    REQUIRE((*text == version('a', 1) || *text == rewritten || *text == expected));
  });
}

TEST_CASE("appends, and truncation down and up across an unaligned end of file", "[fs][crash]") {
  Watched t;
  const Ino a = t.make("a");
  t.write(a, std::string(10'000, 'x'));
  t.fsync(a);
  t.device.watching = true;
  t.resize(a, 5'000);
  t.resize(a, 9'000);
  t.write(a, std::string(3'000, 'y'), 20'000);
  t.write_back(a);
  t.write(a, std::string(500, 'z'), 12'288);
  t.fsync(a);
  t.acknowledge(1);
  t.resize(a, 12'300);
  t.resize(a, 16'000);
  t.write(a, "end", 30'000);
  t.fsync(a);
  t.acknowledge(2);
  crash_everywhere(t, [](Watched& recovered, size_t acknowledged) {
    const auto text = recovered.read("a");
    REQUIRE(text);
    if (acknowledged == 0 && text->size() == 10'000) return;
    // Behind the cut at 5000 there are zeros and what was written since, never the old bytes.
    const std::string tail = text->substr(std::min<size_t>(5'000, text->size()));
    REQUIRE(tail.find('x') == std::string::npos);
    REQUIRE(text->substr(0, 5'000).find_first_not_of('x') == std::string::npos);
    if (acknowledged == 2) {
      REQUIRE(text->size() == 30'003);
      REQUIRE(tail.find('y') == std::string::npos);
      REQUIRE(std::count(text->begin(), text->end(), 'z') == 12);
      REQUIRE(text->substr(30'000) == "end");
    }
  });
}

TEST_CASE("any one superblock copy may rot, at any moment, after older generations were reused",
          "[fs][crash][long]") {
  Watched t;
  const Ino a = t.make("a");
  t.write(a, version('a', 1));
  t.fsync(a);
  t.acknowledge(1);
  t.device.watching = true;
  for (size_t v = 2; v <= 6; ++v) {
    t.write(a, version('a', v));
    for (int i = 0; i < 3; ++i) t.fs->forget(t.make(std::to_string(v * 10 + i)), 1);
    t.fsync(a);
    REQUIRE(name_of(t.fs->store().checkpoint()) == "ok");
    t.acknowledge(v);
    // New files take the lowest free blocks, which nodes of the older generation were in. Nothing
    // of this is flushed before the crash.
    for (int i = 0; i < 6; ++i) {
      const Ino ino = t.make("new" + std::to_string(v * 10 + i));
      t.write(ino, version('n', v));
      t.write_back(ino);
    }
  }
  t.device.note();
  size_t at = 0;
  for (const CrashPoint& point : t.device.stop_watching()) {
    INFO("before operation " << at);
    for_each_crash_image(point.cache, ++at, 1, [&](const MemoryImage& image) {
      for (uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
        MemoryImage rotten = image;
        const uint64_t offset = superblock_lba(slot, kDeviceBlocks).value * kBlockSize;
        rotten.flip_bits(offset + 200, std::byte{1});
        recover_and_verify(rotten, point.acknowledged, [](Watched& recovered, size_t acknowledged) {
          check_version(recovered, "a", acknowledged, 6);
        });
      }
    });
  }
}

TEST_CASE("kill -9, mount again, power loss: what the second daemon saw stays", "[fs][crash]") {
  Watched t;
  const Ino a = t.make("a");
  t.write(a, version('a', 1));
  t.fsync(a);
  t.write(a, version('a', 2));
  REQUIRE(name_of(t.fs->sync_all()) == "ok");
  for (int i = 0; i < 5; ++i) t.fs->forget(t.make("n" + std::to_string(i)), 1);
  const Ino b = t.make("b");
  t.write(b, version('b', 1));
  t.write_back(b);
  t.stop();
  t.mount();
  const auto seen_a = t.read("a"), seen_b = t.read("b");
  REQUIRE(seen_a == version('a', 2));
  t.device.watching = true;
  t.write(t.make("c"), version('c', 1));
  REQUIRE(name_of(t.fs->sync_all()) == "ok");
  crash_everywhere(t, [&](Watched& recovered, size_t) {
    REQUIRE(recovered.read("a") == seen_a);
    REQUIRE(recovered.read("b") == seen_b);
  });
}

TEST_CASE("a daemon dies between a batch and its flush; the next one must not build upon it",
          "[fs][crash]") {
  Watched t;
  const std::string names = "abcdefgh";
  std::vector<Ino> files;
  for (const char name :
       names) {  // at the lowest addresses, where nodes will go once they are free
    files.push_back(t.make(std::string(1, name)));
    t.write(files.back(), version(name, 1));
    t.fsync(files.back());
  }
  t.device.refuse_flush = true;
  for (size_t i = 0; i < names.size(); ++i) t.write(files[i], version(names[i], 2));
  REQUIRE_FALSE(t.fs->sync_all().ok());
  t.stop();
  t.device.refuse_flush = false;
  t.device.watching = true;
  t.mount();
  crash_everywhere(t, [&](Watched& recovered, size_t) {
    for (const char name : names) check_version(recovered, std::string(1, name), 1, 2);
  });
}
