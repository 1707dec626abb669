// SPDX-License-Identifier: GPL-2.0-or-later
// Direct reads or writes of one size at random places of a file for some seconds, then fsync; how
// many a second. For benchmarks of any filesystem.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr size_t kAlignmentBytes = 4096;

struct Options {
  std::string file;
  std::string mode = "write";
  uint64_t size_bytes = 64 << 20;
  uint64_t block_bytes = 4096;
  double seconds = 2;
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::_Exit(2);
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class File {
 public:
  explicit File(const Options& options) : options_(options) {
    descriptor_ = ::open(options.file.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail(options.file.c_str());
    memory_ = static_cast<char*>(std::aligned_alloc(kAlignmentBytes, options.block_bytes));
    std::memset(memory_, 'x', options.block_bytes);
  }
  ~File() {
    ::close(descriptor_);
    std::free(memory_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void fill() {
    for (uint64_t at = 0; at < options_.size_bytes; at += options_.block_bytes) write_at(at);
    sync();
  }
  void read_at(uint64_t offset) {
    if (::pread(descriptor_, memory_, options_.block_bytes, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(options_.block_bytes)) {
      fail("pread");
    }
  }
  void write_at(uint64_t offset) {
    memory_[offset / options_.block_bytes % options_.block_bytes] ^= 1;
    if (::pwrite(descriptor_, memory_, options_.block_bytes, static_cast<off_t>(offset)) !=
        static_cast<ssize_t>(options_.block_bytes)) {
      fail("pwrite");
    }
  }
  void sync() {
    if (::fsync(descriptor_) != 0) fail("fsync");
  }

 private:
  const Options& options_;
  int descriptor_ = -1;
  char* memory_ = nullptr;
};

double measure(File& file, const Options& options) {
  const uint64_t blocks = options.size_bytes / options.block_bytes;
  uint64_t state = 88172645463325252ull, count = 0;
  const double began = now_seconds();
  double elapsed = 0;
  while (elapsed < options.seconds) {
    for (int i = 0; i < 16; ++i, ++count) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      const uint64_t offset = state % blocks * options.block_bytes;
      if (options.mode == "read") {
        file.read_at(offset);
      } else {
        file.write_at(offset);
      }
    }
    elapsed = now_seconds() - began;
  }
  file.sync();
  return static_cast<double>(count) / (now_seconds() - began);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Direct reads or writes at random places of FILE; prints how many a second.");
  Options options;
  app.add_option("FILE", options.file, "made and filled when it is fill's turn")->required();
  app.add_option("--mode", options.mode)->check(CLI::IsMember({"fill", "read", "write"}));
  app.add_option("--size", options.size_bytes, "of the file, in bytes");
  app.add_option("--block", options.block_bytes, "of each read or write, in bytes");
  app.add_option("--seconds", options.seconds);
  CLI11_PARSE(app, argc, argv);
  File file(options);
  if (options.mode == "fill") {
    file.fill();
  } else {
    std::printf("%.1f\n", measure(file, options));
  }
  return 0;
}
