// SPDX-License-Identifier: GPL-2.0-or-later
// Many threads rewrite small pieces of one file, which keeps being written to the device meanwhile:
// the six profiles of the page stability problem. Runs on any filesystem.
//
// The file is cut into cells, each owned by one thread, so that every byte has one right value at
// the end; neighbouring cells of a page belong to different threads. The filesystem under test must
// take care of the guards; this program looks for wrong contents: of its own cells at once, of the
// whole file at the end, and it leaves the expected file for whoever mounts again.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kCellBytes = 512;
constexpr uint64_t kWindowBytes = 65536;
constexpr unsigned kWindowMs = 20;
constexpr uint64_t kStoresPerMsync = 20000;

struct Options {
  std::string file;
  std::string expected;
  char profile = 'A';
  uint64_t size_bytes = 65536;
  unsigned threads = 64;
  unsigned seconds = 5;
  uint64_t seed = 1;
  bool share_pages = false;  // mapped and written cells in one page
  bool whole_pages = false;  // cells are pages: every write replaces one
  bool latencies = false;

  bool direct() const { return profile >= 'D'; }
  size_t cell_bytes() const { return whole_pages ? kPageBytes : kCellBytes; }
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(2);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t below(uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  uint64_t state_;
};

uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

// What all threads share.
struct Run {
  explicit Run(const Options& wanted) : options(wanted) {}

  const Options& options;
  int descriptor = -1;
  std::byte* map = nullptr;
  std::vector<std::byte> expected;  // a byte is touched by the owner of its cell only
  std::atomic<bool> stop{false};
  // Where everybody is at work now: in a large file they would hardly ever meet a page in flight.
  std::atomic<uint64_t> window_offset{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> wrong{0};
};

// A thread that owns some cells.
class Owner {
 public:
  Owner(Run& run, std::vector<uint64_t> offsets, bool mapped, unsigned number)
      : run_(run),
        offsets_(std::move(offsets)),
        mapped_(mapped),
        random_(run.options.seed * 1000 + number),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kPageBytes))) {}
  ~Owner() { std::free(memory_); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  void work() {
    if (offsets_.empty()) return;
    while (!run_.stop.load(std::memory_order_relaxed)) {
      const uint64_t offset = choose();
      if (random_.below(8) == 0) look(offset);
      change(offset);
      run_.writes.fetch_add(1, std::memory_order_relaxed);
      sync(offset);
    }
  }
  std::vector<uint32_t> latencies_us;

 private:
  size_t length() const { return run_.options.cell_bytes(); }

  uint64_t choose() {
    const uint64_t cells = offsets_.size();
    const uint64_t in_window =
        std::max<uint64_t>(1, cells * kWindowBytes / run_.options.size_bytes);
    const uint64_t first =
        run_.window_offset.load(std::memory_order_relaxed) * cells / run_.options.size_bytes;
    return offsets_[(first + random_.below(std::min(cells, in_window))) % cells];
  }

  void change(uint64_t offset) {
    const uint64_t word = random_.below(~0ull);
    for (size_t at = 0; at < length(); at += sizeof word) {
      std::memcpy(memory_ + at, &word, sizeof word);
    }
    const uint64_t began_ns = run_.options.latencies ? now_ns() : 0;
    if (mapped_) {
      std::memcpy(run_.map + offset, memory_, length());
    } else if (::pwrite(run_.descriptor, memory_, length(), static_cast<off_t>(offset)) !=
               static_cast<ssize_t>(length())) {
      fail("pwrite");
    }
    if (began_ns != 0) latencies_us.push_back(static_cast<uint32_t>((now_ns() - began_ns) / 1000));
    std::memcpy(run_.expected.data() + offset, memory_, length());
  }

  void look(uint64_t offset) {
    const std::byte* seen = run_.map + offset;
    if (!mapped_) {
      if (::pread(run_.descriptor, memory_, length(), static_cast<off_t>(offset)) !=
          static_cast<ssize_t>(length())) {
        fail("pread");
      }
      seen = memory_;
    }
    if (std::memcmp(seen, run_.expected.data() + offset, length()) != 0) {
      ++run_.wrong;
      std::fprintf(stderr, "wrong content at offset %llu\n",
                   static_cast<unsigned long long>(offset));
    }
  }

  // Writers ask for writeback of their page. Mapped ones sync theirs now and then: while somebody
  // does, the kernel lets nobody else sync or write(2).
  void sync(uint64_t offset) {
    const uint64_t page = offset / kPageBytes * kPageBytes;
    if (mapped_) {
      if (random_.below(kStoresPerMsync) != 0) return;
      if (::msync(run_.map + page, kPageBytes, MS_SYNC) != 0) fail("msync");
    } else if (::sync_file_range(run_.descriptor, static_cast<off_t>(page), kPageBytes,
                                 SYNC_FILE_RANGE_WRITE) != 0) {
      fail("sync_file_range");
    }
  }

  Run& run_;
  const std::vector<uint64_t> offsets_;
  const bool mapped_;
  Random random_;
  std::byte* const memory_;
};

// Starts writeback of everything, over and over: msync and fsync hold the inode in the kernel, so
// that with them alone nothing is ever rewritten in flight.
void keep_writing_back(Run& run) {
  while (!run.stop.load(std::memory_order_relaxed)) {
    if (::sync_file_range(run.descriptor, 0, 0, SYNC_FILE_RANGE_WRITE) != 0) {
      fail("sync_file_range");
    }
    ::usleep(100);
  }
}

struct Crew {
  unsigned writers = 0, mappers = 0, syncers = 0;
};

Crew crew_of(const Options& options) {
  const unsigned all = options.threads;
  const bool needs_syncers =
      options.profile == 'B' || options.profile == 'D' || options.profile == 'F';
  Crew crew;
  crew.syncers = needs_syncers ? std::max(1u, all / 8) : 0;
  const unsigned rest = all - crew.syncers;
  switch (options.profile) {
    case 'A':
    case 'E':
      crew.writers = rest;
      break;
    case 'B':
    case 'F':
      crew.mappers = rest;
      break;
    default:
      crew.mappers = rest / 2;
      crew.writers = rest - crew.mappers;
  }
  return crew;
}

// Cells dealt out in turn; with both kinds at work on pages of their own, every second page each.
std::vector<std::vector<uint64_t>> deal(const Options& options, const Crew& crew) {
  const unsigned owners = crew.writers + crew.mappers;
  std::vector<std::vector<uint64_t>> offsets(owners);
  const bool apart = crew.writers > 0 && crew.mappers > 0 && !options.share_pages;
  unsigned next_writer = 0, next_mapper = 0, next = 0;
  for (uint64_t offset = 0; offset < options.size_bytes; offset += options.cell_bytes()) {
    unsigned owner;
    if (!apart) {
      owner = next++ % owners;
    } else if (offset / kPageBytes % 2 == 0) {
      owner = next_writer++ % crew.writers;
    } else {
      owner = crew.writers + next_mapper++ % crew.mappers;
    }
    offsets[owner].push_back(offset);
  }
  return offsets;
}

void prepare_file(Run& run) {
  const Options& options = run.options;
  const int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | (options.direct() ? O_DIRECT : 0);
  run.descriptor = ::open(options.file.c_str(), flags, 0644);
  if (run.descriptor < 0) fail(options.file);
  constexpr size_t kChunkBytes = 1 << 20;
  auto* const zeros = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, kChunkBytes));
  std::memset(zeros, 0, kChunkBytes);
  for (uint64_t at = 0; at < options.size_bytes; at += kChunkBytes) {
    const size_t length = std::min<uint64_t>(kChunkBytes, options.size_bytes - at);
    if (::pwrite(run.descriptor, zeros, length, static_cast<off_t>(at)) !=
        static_cast<ssize_t>(length)) {
      fail("pwrite");
    }
  }
  std::free(zeros);
  if (::fsync(run.descriptor) != 0) fail("fsync");
  run.expected.resize(options.size_bytes);
}

// Only for who stores into it: direct writes to a mapped file the kernel lets in one by one.
void map_file(Run& run) {
  void* const map = ::mmap(nullptr, run.options.size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                           run.descriptor, 0);
  if (map == MAP_FAILED) fail("mmap");
  run.map = static_cast<std::byte*>(map);
}

void compare(Run& run, const char* when) {
  const size_t length = run.expected.size();
  auto* const found = static_cast<std::byte*>(std::aligned_alloc(kPageBytes, length));
  size_t at = 0;
  while (at < length) {
    const ssize_t got = ::pread(run.descriptor, found + at, length - at, static_cast<off_t>(at));
    if (got <= 0) fail("pread");
    at += static_cast<size_t>(got);
  }
  for (uint64_t cell = 0; cell < length; cell += kCellBytes) {
    if (std::memcmp(found + cell, run.expected.data() + cell, kCellBytes) == 0) continue;
    ++run.wrong;
    std::fprintf(stderr, "wrong content %s at offset %llu\n", when,
                 static_cast<unsigned long long>(cell));
  }
  std::free(found);
}

void save_expected(const Run& run) {
  if (run.options.expected.empty()) return;
  FILE* const out = std::fopen(run.options.expected.c_str(), "w");
  if (out == nullptr) fail(run.options.expected);
  const size_t written = std::fwrite(run.expected.data(), 1, run.expected.size(), out);
  if (std::fclose(out) != 0 || written != run.expected.size()) fail(run.options.expected);
}

void report(const Run& run, std::vector<uint32_t> latencies_us, double seconds) {
  std::printf("writes %llu\n", static_cast<unsigned long long>(run.writes.load()));
  std::printf("per_second %.0f\n", static_cast<double>(run.writes.load()) / seconds);
  if (!latencies_us.empty()) {
    std::ranges::sort(latencies_us);
    const auto at = [&](double part) {
      return latencies_us[static_cast<size_t>(static_cast<double>(latencies_us.size() - 1) * part)];
    };
    std::printf("p50_us %u\np99_us %u\nmax_us %u\n", at(0.5), at(0.99), at(1));
  }
  std::printf("wrong %llu\n", static_cast<unsigned long long>(run.wrong.load()));
}

int run_stress(const Options& options) {
  Run run(options);
  prepare_file(run);
  const Crew crew = crew_of(options);
  if (crew.mappers > 0) map_file(run);
  auto offsets = deal(options, crew);
  std::vector<std::unique_ptr<Owner>> owners;
  for (unsigned i = 0; i < offsets.size(); ++i) {
    owners.push_back(std::make_unique<Owner>(run, std::move(offsets[i]), i >= crew.writers, i));
  }
  std::vector<std::thread> threads;
  const uint64_t began_ns = now_ns();
  for (auto& owner : owners) threads.emplace_back([&owner] { owner->work(); });
  for (unsigned i = 0; i < crew.syncers; ++i) threads.emplace_back([&] { keep_writing_back(run); });
  Random random(options.seed);
  while (now_ns() - began_ns < options.seconds * 1'000'000'000ull) {
    ::usleep(kWindowMs * 1000);
    run.window_offset = random.below(options.size_bytes);
  }
  run.stop = true;
  for (std::thread& thread : threads) thread.join();
  const double seconds = static_cast<double>(now_ns() - began_ns) / 1e9;

  compare(run, "before fsync");
  if (run.map != nullptr && ::msync(run.map, options.size_bytes, MS_SYNC) != 0) fail("msync");
  if (::fsync(run.descriptor) != 0) fail("fsync");
  compare(run, "after fsync");
  save_expected(run);
  std::vector<uint32_t> latencies_us;
  for (const auto& owner : owners) {
    latencies_us.insert(latencies_us.end(), owner->latencies_us.begin(), owner->latencies_us.end());
  }
  report(run, std::move(latencies_us), seconds);
  return run.wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Rewrites pieces of FILE from many threads while it is being written back.");
  Options options;
  std::string profile = "A";
  app.add_option("FILE", options.file, "made anew")->required();
  app.add_option("--profile", profile,
                 "A write + sync_file_range; B mmap + msync; C both; D, E, F: C, A, B direct")
      ->check(CLI::IsMember({"A", "B", "C", "D", "E", "F"}));
  app.add_option("--size", options.size_bytes, "of the file, in bytes");
  app.add_option("--threads", options.threads, "all together")->check(CLI::Range(2, 1000));
  app.add_option("--seconds", options.seconds, "how long");
  app.add_option("--seed", options.seed, "of the threads' random numbers");
  app.add_option("--expected", options.expected, "file for what must be in FILE");
  app.add_flag("--share-pages", options.share_pages, "mapped and written cells in the same pages");
  app.add_flag("--whole-pages", options.whole_pages, "every write replaces a page");
  app.add_flag("--latencies", options.latencies, "measure every write");
  CLI11_PARSE(app, argc, argv);
  options.profile = profile[0];
  return run_stress(options);
}
