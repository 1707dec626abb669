// SPDX-License-Identifier: GPL-2.0-or-later
// What the device changes behind our back: every single-bit flip, misdirected and lost writes,
// stale blocks. Nothing of it is ever returned by a read; check finds all of it; the damage list
// names it until the block is freed.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "device/faulty_device.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

using Block = std::vector<std::byte>;

struct Lines final : Logger {
  void write(LogLevel, std::string_view line) override {
    MutexLock lock(mutex);
    lines.emplace_back(line);
  }
  size_t count(const std::string& part) {
    MutexLock lock(mutex);
    return static_cast<size_t>(std::count_if(lines.begin(), lines.end(), [&](const auto& line) {
      return line.find(part) != std::string::npos;
    }));
  }
  Mutex mutex{LockRank::log, "test log"};
  std::vector<std::string> lines;
};

Block random_blocks(uint64_t seed, uint64_t blocks = 1) {
  Prng prng(seed);
  Block bytes(blocks * kBlockSize);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t random = prng.next();
    std::memcpy(bytes.data() + i, &random, 8);
  }
  return bytes;
}

// What check says of a data block with these contents, and no other kind of problem.
bool of_data(const Problem& problem) {
  return problem.id == ProblemId::data_guard || problem.id == ProblemId::data_unreadable ||
         problem.id == ProblemId::data_app_tag || problem.id == ProblemId::data_reference_tag;
}

struct DamagedFs {
  explicit DamagedFs(Interval interval = Interval::block_4096, uint64_t device_blocks = 16384,
                     uint64_t fault_seed = 1)
      : memory(device_blocks), faulty(memory, {fault_seed, {}}) {
    FormatOptions format;
    format.uuid = {1};
    format.epoch = {2};
    format.interval = interval;
    FS_ASSERT(format_device(memory, format).ok());
    options.clock = &clock;
    options.logger = &log;
    options.commit_interval_ns = 3600 * kNsPerSecond;
    options.writeback_delay_ns = 1800 * kNsPerSecond;
    options.atime = AtimePolicy::noatime;
    mount();
  }
  ~DamagedFs() {
    if (fs) (void)fs->close();
  }
  void mount() {
    auto opened = FileSystem::open(faulty, options);
    if (!opened.ok()) FAIL(opened.error().message());
    fs = std::move(*opened);
  }
  void unmount() {
    CHECK(name_of(fs->close()) == "ok");
    fs.reset();
  }
  void remount() {
    unmount();
    mount();
  }
  void crash() {
    CHECK(name_of(fs->sync_all()) == "ok");
    fs->stop();
    fs.reset();
    mount();
  }
  FileSystem* operator->() { return fs.get(); }

  Ino make_file(const std::string& name, Ino parent = kRootIno) {
    const auto made = fs->make_node(parent, name, {S_IFREG | 0600, 0, 0, 0, 0});
    if (!made.ok()) FAIL(made.error().message());
    return made->ino;
  }
  // Written and on the device.
  void write(Ino ino, const Block& bytes, uint64_t block = 0) {
    constexpr uint64_t kStep = 256 * kBlockSize;
    for (uint64_t at = 0; at < bytes.size(); at += kStep) {
      const std::span<const std::byte> part =
          std::span(bytes).subspan(at, std::min<uint64_t>(kStep, bytes.size() - at));
      BufferSlice payload(part.size());
      std::memcpy(payload.writable().data(), part.data(), part.size());
      REQUIRE(name_of(fs->write(ino, 0, block * kBlockSize + at, payload)) == "ok");
    }
    REQUIRE(name_of(fs->fsync(ino, 0, false)) == "ok");
  }
  // "same", "WRONG BYTES", or the name of the error.
  std::string read(Ino ino, const Block& expected, uint64_t block = 0) {
    Block out(expected.size(), std::byte{'?'});
    const auto done = fs->read(ino, 0, block * kBlockSize, out);
    if (!done.ok()) return done.error().name();
    return *done == expected.size() && out == expected ? "same" : "WRONG BYTES";
  }
  Lba lba_of(Ino ino, uint64_t block) {
    const auto runs = fs->mapped_runs(ino, block, block + 1);
    REQUIRE(runs.ok());
    REQUIRE(runs->front().kind == RunKind::written);
    return runs->front().lba;
  }
  Block on_medium(Lba lba) {
    AlignedBuffer buffer(kBlockSize);
    REQUIRE(memory.read(lba, buffer.span()).ok());
    return {buffer.span().begin(), buffer.span().end()};
  }
  void put_on_medium(Lba lba, const Block& bytes) {
    AlignedBuffer buffer(kBlockSize);
    std::copy(bytes.begin(), bytes.end(), buffer.span().begin());
    REQUIRE(memory.write(lba, buffer.span()).ok());
  }
  void flip(Lba lba, uint64_t bit) {
    Block bytes = on_medium(lba);
    bytes[bit / 8] ^= std::byte{1} << static_cast<int>(bit % 8);
    put_on_medium(lba, bytes);
  }
  void fail_reads(std::optional<BlockRange> range, FaultKind kind, uint64_t times) {
    faulty.set_plan({3, {{.kind = kind, .op = DeviceOp::read, .range = range, .times = times}}});
  }
  std::vector<DamageEntry> damage() {
    auto entries = fs->damage(Lba(0), SIZE_MAX);
    if (!entries.ok()) FAIL(entries.error().message());
    return std::move(*entries);
  }
  uint64_t statistic(const std::string& wanted) {
    for (const auto& [name, value] : fs->counters()) {
      if (name == wanted) return value;
    }
    return ~0ull;
  }
  // Unmounted: problems of data blocks as text; anything else that is wrong fails the test.
  std::vector<std::string> check() {
    std::vector<std::string> found;
    CheckOptions check_options;
    check_options.verify_data = true;
    check_options.report = [&](const Problem& problem) {
      if (!of_data(problem)) FAIL_CHECK(problem.text());
      found.push_back(problem.text());
    };
    NullLogger quiet;
    const auto report = check_filesystem(memory, check_options, clock, quiet);
    if (!report.ok()) FAIL(report.error().message());
    return found;
  }

  SystemClock clock;
  Lines log;
  MemoryDevice memory;
  FaultyDevice faulty;
  FileSystemOptions options;
  std::unique_ptr<FileSystem> fs;
};

}  // namespace

TEST_CASE("every single-bit flip of a block is detected on read and by check, listed and cleared",
          "[fs][damage]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  constexpr uint64_t kBits = kBlockSize * 8;
  constexpr uint64_t kFileBlocks = 4096;
  DamagedFs f(interval);
  const Block pattern = random_blocks(7);
  Block contents;
  for (uint64_t i = 0; i < kFileBlocks; ++i) {
    contents.insert(contents.end(), pattern.begin(), pattern.end());
  }
  const Ino ino = f.make_file("file");
  uint64_t detected = 0, listed = 0, checked = 0;
  for (uint64_t first_bit = 0; first_bit < kBits; first_bit += kFileBlocks) {
    f.write(ino, contents);
    REQUIRE(f.damage().empty());
    for (uint64_t i = 0; i < kFileBlocks; ++i) f.flip(f.lba_of(ino, i), first_bit + i);
    for (uint64_t i = 0; i < kFileBlocks; ++i) {
      detected += f.read(ino, pattern, i) == "guard_mismatch" ? 1 : 0;
    }
    for (const DamageEntry& entry : f.damage()) {
      const bool right = entry.path == "/file" && entry.ino == ino &&
                         entry.kind == DamageKind::guard && entry.expected != entry.found &&
                         entry.lba == f.lba_of(ino, entry.file_block);
      listed += right ? 1 : 0;
    }
    f.unmount();
    checked += f.check().size();
    f.mount();
    CHECK(f.statistic("damage.entries") == kFileBlocks);
  }
  CHECK(detected == kBits);
  CHECK(listed == kBits);
  CHECK(checked == kBits);
  f.write(ino, contents);
  CHECK(f.read(ino, pattern, 77) == "same");
  CHECK(f.statistic("damage.entries") == 0);
  f.unmount();
  CHECK(f.check().empty());
}

TEST_CASE("blocks of two files that a device swaps are not returned", "[fs][damage]") {
  const Interval interval = GENERATE(Interval::block_4096, Interval::sector_512);
  const uint64_t blocks = GENERATE(1, 40);  // tuples inline and by address
  const bool same_contents = GENERATE(false, true);
  DamagedFs f(interval);
  f.options.cache = GENERATE(CacheMode::kernel, CacheMode::daemon);
  const Block a_bytes = random_blocks(1, blocks);
  const Block b_bytes = same_contents ? a_bytes : random_blocks(2, blocks);
  const Ino a = f.make_file("a"), b = f.make_file("b");
  f.write(a, a_bytes);
  f.write(b, b_bytes);
  const uint64_t block = blocks / 2;
  const Lba a_lba = f.lba_of(a, block), b_lba = f.lba_of(b, block);
  const Block a_block = f.on_medium(a_lba), b_block = f.on_medium(b_lba);
  f.put_on_medium(a_lba, b_block);
  f.put_on_medium(b_lba, a_block);
  f.remount();
  // The same bytes are right wherever they come from.
  const std::string expected = same_contents ? "same" : "guard_mismatch";
  CHECK(f.read(a, a_bytes) == expected);
  CHECK(f.read(b, b_bytes) == expected);
  CHECK(f.damage().size() == (same_contents ? 0 : 2));
  f.unmount();
  CHECK(f.check().size() == (same_contents ? 0 : 2));
}

TEST_CASE("lost and misdirected writes and stale blocks: no read returns wrong bytes",
          "[fs][damage]") {
  const FaultKind kind = GENERATE(FaultKind::lose_write, FaultKind::misdirect_write);
  uint64_t detected = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    DamagedFs f(seed % 2 == 0 ? Interval::block_4096 : Interval::sector_512, 8192, seed);
    Prng prng(seed);
    const uint64_t blocks = 1 + prng.next() % 40;
    const Block other_bytes = random_blocks(3, 60);
    const Ino other = f.make_file("other"), file = f.make_file("file");
    f.write(other, other_bytes);
    f.write(file, random_blocks(4, blocks));
    f.write(file, random_blocks(5, blocks));  // so that freed blocks hold older versions
    f.remount();
    const DiskSuperblock superblock = read_superblock(f.memory).value();
    const uint64_t data_start =
        superblock.space_table_start + 2 * uint64_t{superblock.space_table_blocks};
    const BlockRange data{Lba(data_start), f.memory.block_count() - 2 - data_start};
    const Block newest = random_blocks(6, blocks);
    // The next write of data.
    f.faulty.set_plan({seed, {{.kind = kind, .op = DeviceOp::write, .range = data}}});
    f.write(file, newest);
    CHECK(f.faulty.faults() >= 1);
    f.faulty.set_plan({});
    bool any = false;
    for (uint64_t i = 0; i < blocks; ++i) {
      const auto from = newest.begin() + static_cast<ptrdiff_t>(i * kBlockSize);
      const std::string verdict = f.read(file, Block(from, from + kBlockSize), i);
      CHECK((verdict == "same" || verdict == "guard_mismatch"));
      any = any || verdict != "same";
    }
    CHECK(any);
    for (uint64_t i = 0; i < 60; ++i) {
      const auto from = other_bytes.begin() + static_cast<ptrdiff_t>(i * kBlockSize);
      const std::string verdict = f.read(other, Block(from, from + kBlockSize), i);
      CHECK((verdict == "same" || verdict == "guard_mismatch"));
    }
    uint64_t of_file = 0;
    for (const DamageEntry& entry : f.damage()) {
      CHECK((entry.path == "/file" || entry.path == "/other"));
      of_file += entry.path == "/file" ? 1 : 0;
    }
    CHECK(of_file >= 1);
    detected += any ? 1 : 0;
    // A write that goes astray may also hit tree nodes: then check says that.
    CheckOptions check_options;
    uint64_t data_problems = 0;
    check_options.verify_data = true;
    check_options.report = [&](const Problem& problem) { data_problems += of_data(problem); };
    (void)f.fs->close();
    f.fs.reset();
    NullLogger quiet;
    const auto report = check_filesystem(f.memory, check_options, f.clock, quiet);
    REQUIRE(report.ok());
    CHECK((data_problems >= of_file || report->incomplete));
    CHECK_FALSE(report->clean());
  }
  CHECK(detected == 60);
}

TEST_CASE("a block with the contents of its file's older version is not returned", "[fs][damage]") {
  DamagedFs f;
  const Ino ino = f.make_file("file");
  const Block old_bytes = random_blocks(1), new_bytes = random_blocks(2);
  f.write(ino, old_bytes);
  const Lba old_lba = f.lba_of(ino, 0);
  f.write(ino, new_bytes);
  const Lba lba = f.lba_of(ino, 0);
  REQUIRE(lba != old_lba);
  f.put_on_medium(lba, old_bytes);
  CHECK(f.read(ino, new_bytes) == "guard_mismatch");
  f.unmount();
  REQUIRE(f.check().size() == 1);
  CHECK(f.check()[0].find("inode 2 (/file), offset 0, block " + std::to_string(lba.value)) !=
        std::string::npos);
}

TEST_CASE("a device that errs once is healed by the second read and not listed", "[fs][damage]") {
  const FaultKind kind = GENERATE(FaultKind::corrupt_read, FaultKind::fail);
  const uint64_t blocks = GENERATE(1, 40);
  DamagedFs f;
  const Block bytes = random_blocks(1, blocks);
  const Ino ino = f.make_file("file");
  f.write(ino, bytes);
  const Lba lba = f.lba_of(ino, 0);
  f.fail_reads(BlockRange{lba, blocks}, kind, 1);
  CHECK(f.read(ino, bytes) == "same");
  CHECK(f.faulty.faults() == 1);
  CHECK(f.statistic("guard.mismatches") == (kind == FaultKind::corrupt_read ? 1 : 0));
  CHECK(f.damage().empty());
}

TEST_CASE("a block that cannot be read is listed, and no other of the request", "[fs][damage]") {
  DamagedFs f;
  const Block bytes = random_blocks(1, 40);
  const Ino ino = f.make_file("file");
  f.write(ino, bytes);
  const Lba lba = f.lba_of(ino, 9);
  f.fail_reads(BlockRange{lba, 1}, FaultKind::fail, UINT64_MAX);
  CHECK(f.read(ino, bytes) == "device_read");
  const auto damage = f.damage();
  REQUIRE(damage.size() == 1);
  CHECK(damage[0].lba == lba);
  CHECK(damage[0].kind == DamageKind::read_error);
  CHECK(damage[0].file_block == 9);
  CHECK(f.read(ino, random_blocks(1, 40), 0) == "device_read");
  CHECK(f.log.count("block " + std::to_string(lba.value)) == 1);
  const Block first(bytes.begin(), bytes.begin() + kBlockSize);
  CHECK(f.read(ino, first) == "same");
  f.faulty.set_plan({});
  f.write(ino, first, 9);
  CHECK(f.damage().empty());
}

TEST_CASE("the damage list names the file, once, and survives remount and crash", "[fs][damage]") {
  DamagedFs f;
  const auto directory = f->make_directory(kRootIno, "dir", {0755, 0, 0, 0, 0});
  REQUIRE(directory.ok());
  const auto below = f->make_directory(directory->ino, "sub dir", {0755, 0, 0, 0, 0});
  REQUIRE(below.ok());
  const Ino ino = f.make_file("file", below->ino);
  const Block bytes = random_blocks(1, 3);
  f.write(ino, bytes);
  const Lba lba = f.lba_of(ino, 2);
  f.flip(lba, 5);
  for (int i = 0; i < 3; ++i) CHECK(f.read(ino, bytes) == "guard_mismatch");
  // Nor is it built upon: a write of a part would give wrong bytes a good guard.
  CHECK(name_of(f->write(ino, 0, 2 * kBlockSize + 10, TestFs::payload("part"))) ==
        "guard_mismatch");
  const auto expect_entry = [&](const std::string& path) {
    const auto damage = f.damage();
    REQUIRE(damage.size() == 1);
    CHECK(damage[0].path == path);
    CHECK(damage[0].lba == lba);
    CHECK(damage[0].file_block == 2);
    CHECK(damage[0].seen.seconds > 0);
  };
  expect_entry("/dir/sub dir/file");
  CHECK(f.log.count("inode 4 (/dir/sub dir/file) offset 8192 block " + std::to_string(lba.value) +
                    ": guard expected") == 1);
  f.remount();
  expect_entry("/dir/sub dir/file");
  REQUIRE(name_of(f->rename(below->ino, "file", kRootIno, "moved", RenameMode::replace)) == "ok");
  f.crash();
  expect_entry("/moved");
  CHECK(f.read(ino, bytes) == "guard_mismatch");
  CHECK(f.log.count("guard expected") == 1);
}

TEST_CASE("an entry of the damage list goes with its block", "[fs][damage]") {
  const uint64_t blocks = GENERATE(3, 40);
  enum class Way { overwrite, truncate, unlink, clear };
  const Way way = GENERATE(Way::overwrite, Way::truncate, Way::unlink, Way::clear);
  const bool after_remount = GENERATE(false, true);
  DamagedFs f;
  const Block bytes = random_blocks(1, blocks);
  const Ino keep = f.make_file("keep"), ino = f.make_file("file");
  f.write(keep, bytes);
  f.write(ino, bytes);
  f.flip(f.lba_of(keep, 1), 99);
  f.flip(f.lba_of(ino, 2), 99);
  CHECK(f.read(keep, bytes) == "guard_mismatch");
  CHECK(f.read(ino, bytes) == "guard_mismatch");
  REQUIRE(f.damage().size() == 2);
  if (after_remount) f.remount();
  AttributeChange change;
  change.size_bytes = 2 * kBlockSize;
  switch (way) {
    case Way::overwrite:
      f.write(ino, random_blocks(2), 2);
      break;
    case Way::truncate:
      REQUIRE(f->set_attributes(ino, change).ok());
      break;
    case Way::unlink:
      REQUIRE(f->unlink(kRootIno, "file").ok());
      f->forget(ino, 1);
      break;
    case Way::clear:
      REQUIRE(f->clear_damage().ok());
      CHECK(f.damage().empty());
      f.remount();
      CHECK(f.damage().empty());
      return;
  }
  CHECK(f.statistic("damage.entries") == 1);
  f.unmount();
  CHECK(f.check().size() == 1);  // that of `keep`; no entry is left over
  f.mount();
  const auto damage = f.damage();
  REQUIRE(damage.size() == 1);
  CHECK(damage[0].path == "/keep");
}

TEST_CASE("where nothing may be changed damage is listed in memory only", "[fs][damage]") {
  DamagedFs f;
  const Block bytes = random_blocks(1);
  const Ino ino = f.make_file("file");
  f.write(ino, bytes);
  f.flip(f.lba_of(ino, 0), 1);
  f.unmount();
  f.options.read_only = true;
  f.mount();
  CHECK(f.read(ino, bytes) == "guard_mismatch");
  REQUIRE(f.damage().size() == 1);
  CHECK(f.damage()[0].path == "/file");
  CHECK(name_of(f->clear_damage()) == "read_only");
  f.unmount();
  f.options.read_only = false;
  f.mount();
  CHECK(f.damage().empty());
}
