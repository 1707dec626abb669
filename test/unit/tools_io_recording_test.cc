// SPDX-License-Identifier: GPL-2.0-or-later
// The file behind mount -o iolog, and words for the shell.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "device/source_file.h"
#include "tools/crash_bundle.h"
#include "tools/io_recording.h"

using namespace stablefs;
namespace paths = std::filesystem;

namespace {

class Directory {
 public:
  Directory() {
    std::string name = (paths::temp_directory_path() / "stablefs-recording-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Directory() { paths::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ / name; }
  const paths::path& path() const { return path_; }

 private:
  paths::path path_;
};

AlignedBuffer filled(unsigned char value, size_t blocks) {
  AlignedBuffer buffer(blocks * kBlockSize);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{value});
  return buffer;
}

std::unique_ptr<SourceDevice> make_image(const std::string& path, uint64_t size_bytes) {
  { std::ofstream(path, std::ios::binary); }
  paths::resize_file(path, size_bytes);
  NullLogger logger;
  auto device = open_source(path, {}, logger);
  REQUIRE(device.ok());
  return std::move(*device);
}

IoLog parse_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  auto log = parse_io_log(std::as_bytes(std::span(bytes.data(), bytes.size())));
  REQUIRE(log.ok());
  return std::move(*log);
}

int first_byte(const MemoryImage& image, uint64_t lba) {
  const auto page = image.page(Lba(lba));
  return page ? static_cast<int>((*page)[0]) : 0;
}

}  // namespace

TEST_CASE("a recording holds what the image held, holes left out, and what was sent to it then") {
  const Directory directory;
  // With a tail that is no whole block, and data across a border of what is read at a time.
  const auto source = make_image(directory / "image", 1000 * kBlockSize + 100);
  REQUIRE(source->write(Lba(255), filled(5, 3).span()).ok());
  REQUIRE(source->write(Lba(600), filled(0, 2).span()).ok());
  REQUIRE(source->write(Lba(999), filled(6, 1).span()).ok());
  const std::string file = directory / "log";
  {
    const auto recording = IoRecording::start(file, *source);
    REQUIRE(recording.ok());
    BlockDevice& device = (*recording)->device();
    REQUIRE(device.write(Lba(256), filled(7, 1).span()).ok());
    (*recording)->mark("done");
    CHECK((*recording)->finish().ok());
    CHECK_FALSE(IoRecording::start(file, *source).ok());  // never over what is there
  }
  CHECK((paths::status(file).permissions() & paths::perms::all) ==
        (paths::perms::owner_read | paths::perms::owner_write));
  const IoLog log = parse_file(file);
  CHECK(log.block_count == 1000);
  const MemoryImage base = base_of(log);
  CHECK(base.populated_blocks() == 4);
  for (const uint64_t lba : {255, 256, 257}) CHECK(first_byte(base, lba) == 5);
  CHECK(first_byte(base, 999) == 6);
  REQUIRE(log.events.size() > 3);
  CHECK(log.events.back().text() == "done");
}

TEST_CASE("a recording that cannot be written any more says so and is a readable prefix") {
  const Directory directory;
  const auto source = make_image(directory / "image", 100 * kBlockSize);
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) return;
  FileIoLog log(full, 100);
  RecordingDevice device(*source, log);
  CHECK(device.write(Lba(1), filled(1, 1).span()).ok());
  CHECK_FALSE(log.status().ok());
  CHECK_FALSE(log.sync().ok());
}

TEST_CASE("the file of a recording is found from anywhere, and is a new one") {
  const Directory directory;
  const std::string canonical = paths::canonical(directory.path());
  CHECK(*resolve_iolog_path(directory / "log") == canonical + "/log");
  CHECK(*resolve_iolog_path(directory / "./log") == canonical + "/log");
  CHECK_FALSE(resolve_iolog_path(directory / "").ok());
  CHECK_FALSE(resolve_iolog_path(directory / "..").ok());
  CHECK_FALSE(resolve_iolog_path(directory / "nowhere/log").ok());
  { std::ofstream(directory / "log"); }
  CHECK_FALSE(resolve_iolog_path(directory / "log").ok());
  paths::create_symlink("nowhere", directory / "link");
  CHECK_FALSE(resolve_iolog_path(directory / "link").ok());
}

TEST_CASE("what lies below a directory") {
  CHECK(lies_below("/a/b", "/a"));
  CHECK(lies_below("/a", "/a"));
  CHECK(lies_below("/a", "/"));
  CHECK_FALSE(lies_below("/ab", "/a"));
  CHECK_FALSE(lies_below("/a", "/a/b"));
}

TEST_CASE("a word reaches the shell as it is") {
  CHECK(shell_quoted("a b") == "'a b'");
  CHECK(shell_quoted("it's $x") == "'it'\\''s $x'");
  CHECK(shell_quoted("") == "''");
}
