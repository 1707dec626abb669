// SPDX-License-Identifier: GPL-2.0-or-later
// Copies between files while other threads change both ends.
#include <algorithm>

#include "base/scheduler.h"
#include "data_fixture.h"
#include "direct_writing.h"

using namespace stablefs;

namespace {

constexpr Timestamp kNow{2000, 7};

// `body` on a filesystem with the scheduler's threads and time. It says what is wrong, or "".
std::string run_scheduled(DataSetup setup, uint64_t seed,
                          const std::function<std::string(DataFixture&)>& body) {
  Scheduler scheduler(seed);
  setup.seed = seed;
  std::string wrong;
  scheduler.run([&] {
    SimClock clock(scheduler);
    DataFixture f(setup, &clock);
    wrong = body(f);
    if (f.verifying.verifying_counters().mismatches != 0) wrong = "mismatch";
  });
  return wrong;
}

constexpr size_t kFiles = 3;
constexpr uint64_t kBlocks = 12;

// Whole blocks of one byte: block b of any file holds a value with b in it.
std::vector<std::byte> block_of(uint64_t block, uint64_t version) {
  return blocks(1, static_cast<int>(block * 16 + version % 15 + 1));
}

bool belongs_at(std::span<const std::byte> bytes, uint64_t block) {
  const int first = std::to_integer<int>(bytes.front());
  const bool same = std::all_of(bytes.begin(), bytes.end(),
                                [&](std::byte b) { return std::to_integer<int>(b) == first; });
  return same && (first == 0 || (first - 1) / 16 == static_cast<int>(block));
}

void change_anything(DataFixture& f, Prng& prng) {
  FileData& file = *f.files[prng.below(kFiles)];
  FileData& other = *f.files[prng.below(kFiles)];
  const uint64_t first = prng.below(kBlocks);
  const uint64_t count = 1 + prng.below(kBlocks - first);
  const uint64_t offset = first * kBlockSize, length = count * kBlockSize;
  switch (prng.below(9)) {
    case 0:
      for (uint64_t block = first; block < first + count; ++block) {
        const auto bytes = block_of(block, prng.next());
        FS_ASSERT(file.write(block * kBlockSize, payload_of(bytes), kNow).ok());
      }
      break;
    case 1:
      FS_ASSERT(file.punch(offset, length, kNow).ok());
      break;
    case 2:
      FS_ASSERT(file.write_back().ok());
      break;
    case 3:
      if (prng.chance(3)) FS_ASSERT(file.truncate(offset, kNow).ok());
      break;
    case 4:
      FS_ASSERT(write_directly(file, offset, block_of(first, prng.next()), kNow).ok());
      break;
    case 5: {
      const bool keep_size = prng.chance(2);
      FS_ASSERT((prng.chance(2) ? file.zero(offset, length, keep_size, kNow)
                                : file.allocate(offset, length, keep_size, kNow))
                    .ok());
      break;
    }
    default:
      if (&file == &other) break;
      FS_ASSERT(file.copy_range(offset, other, offset, length, kNow).ok());
  }
}

std::string foreign_blocks(DataFixture& f) {
  for (const auto& file : f.files) {
    std::vector<std::byte> bytes(kBlocks * kBlockSize);
    const auto read = file->read(0, bytes);
    if (!read.ok()) return what(read);
    for (uint64_t block = 0; block < kBlocks; ++block) {
      if (!belongs_at(std::span(bytes).subspan(block * kBlockSize, kBlockSize), block)) {
        return "block " + std::to_string(block) + " has foreign bytes";
      }
    }
  }
  return "";
}

}  // namespace

// Tickets in two files, to and fro, between writers and those who sync: nobody waits for ever, and
// each block is one of what was written to its place in some file.
TEST_CASE("threads copy between files in all directions", "[data][clone][sim]") {
  const uint64_t seed = GENERATE(range(1, 41));
  INFO("seed " << seed);
  DataSetup setup;
  setup.device_blocks = 8192;
  setup.asynchronous = true;
  setup.writeback_delay_ns = seed % 3 == 0 ? 0 : 20 * kNsPerMs;
  setup.keep_clean = seed % 2 == 0;
  const std::string wrong = run_scheduled(setup, seed, [&](DataFixture& f) -> std::string {
    for (size_t i = 0; i < kFiles; ++i) f.make_file();
    std::vector<Thread> threads;
    for (uint64_t thread = 0; thread < 4; ++thread) {
      threads.emplace_back("copier", [&, thread] {
        Prng prng(seed * 100 + thread);
        for (int round = 0; round < 25; ++round) change_anything(f, prng);
      });
    }
    for (Thread& thread : threads) thread.join();
    if (!f.context->sync_all().ok()) return "sync";
    if (std::string items = f.check_items(); !items.empty()) return items;
    f.reopen();
    return foreign_blocks(f);
  });
  CHECK(wrong == "");
}

// Entries of the damage list are erased under the lock of shared blocks as soon as there are any,
// and whoever takes it must have journal space. That it does is an assertion.
TEST_CASE("a damaged block goes while others begin to share", "[data][clone][sim]") {
  const uint64_t seed = GENERATE(range(1, 61));
  INFO("seed " << seed);
  constexpr uint64_t kBytes = 16 * kBlockSize;
  DataSetup setup;
  setup.asynchronous = true;
  const std::string wrong = run_scheduled(setup, seed, [&](DataFixture& f) -> std::string {
    FileData& damaged = f.make_file();
    FileData& source = f.make_file();
    FileData& target = f.make_file();
    for (FileData* file : {&damaged, &source}) put_at(*file, 0, blocks(16, 1));
    FS_ASSERT(f.context->sync_all().ok());
    const Lba lba = damaged.mapped_runs(3, 4).value().front().lba;
    AlignedBuffer rotten(kBlockSize);
    std::memset(rotten.data(), 2, kBlockSize);
    FS_ASSERT(f.memory.write(lba, rotten.span()).ok());
    std::vector<std::byte> out(kBytes);
    FS_ASSERT(!damaged.read(0, out).ok());
    FS_ASSERT(f.context->damage().count({lba, 1}) == 1);
    Thread copier("copier", [&] { FS_ASSERT(source.copy_range(0, target, 0, kBytes, kNow).ok()); });
    const Status cut =
        seed % 2 == 0 ? damaged.punch(0, kBytes, kNow) : damaged.truncate(kBlockSize, kNow);
    FS_ASSERT(cut.ok());
    copier.join();
    return f.context->damage().empty() ? f.check_items() : "damage is left";
  });
  CHECK(wrong == "");
}

// Blocks of the target that were never written may be written to below a copy under way, which then
// must not be mapped: a crash would leave it behind the end of the file.
TEST_CASE("beside a copy its target is written to below it", "[data][clone][sim]") {
  const uint64_t seed = GENERATE(range(1, 101));
  INFO("seed " << seed);
  DataSetup setup;
  setup.asynchronous = seed % 2 == 0;
  const std::string wrong = run_scheduled(setup, seed, [&](DataFixture& f) -> std::string {
    FileData& source = f.make_file();
    FileData& target = f.make_file();
    put_at(source, 0, blocks(4, 1));
    put_at(target, 0, blocks(1, 2));
    FS_ASSERT(f.context->sync_all().ok());
    Thread writer("writer", [&] {
      put_at(target, 40 * kBlockSize, blocks(1, 4));
      put_at(target, 5 * kBlockSize, blocks(1, 3));
    });
    FS_ASSERT(source.copy_range(0, target, 20 * kBlockSize, 4 * kBlockSize, kNow).ok());
    writer.join();
    if (std::string items = f.check_items(); !items.empty()) return items;
    if (!f.context->sync_all().ok()) return "sync";
    if (std::string items = f.check_items(); !items.empty()) return items;
    auto expected = blocks(41, 0);
    const auto overlay = [&](uint64_t block, const std::vector<std::byte>& bytes) {
      std::copy(bytes.begin(), bytes.end(),
                expected.begin() + static_cast<ptrdiff_t>(block * kBlockSize));
    };
    overlay(0, blocks(1, 2));
    overlay(5, blocks(1, 3));
    overlay(20, blocks(4, 1));
    overlay(40, blocks(1, 4));
    f.reopen();
    std::vector<std::byte> bytes(41 * kBlockSize);
    FS_ASSERT(f.files[1]->read(0, bytes).ok());
    return bytes == expected ? "" : "the target has other bytes";
  });
  CHECK(wrong == "");
}
