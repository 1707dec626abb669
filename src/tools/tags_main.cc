// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs tags FILE: the protection information of a file on a mounted filesystem.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/ids.h"
#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/mains.h"

namespace stablefs {
namespace {

constexpr size_t kTupleDigits = 16;
constexpr size_t kLargestAttribute = 65536;

struct Bytes {
  uint64_t offset = 0;
  uint64_t end = UINT64_MAX;
};

// A file to be closed.
struct OpenedFile {
  explicit OpenedFile(const std::string& path)
      : descriptor(::open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) {}
  ~OpenedFile() {
    if (descriptor >= 0) ::close(descriptor);
  }
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;
  const int descriptor;
};

Error system_error(const std::string& path) {
  return {ErrorCode::invalid_argument, fmt::format("{}: {}", path, std::strerror(errno))};
}

// "OFFSET:LENGTH"; without length: to the end.
Result<Bytes> parse_range(std::string_view text) {
  const size_t colon = text.find(':');
  Bytes range;
  range.offset = FS_TRY(parse_size(text.substr(0, colon)));
  if (colon == std::string_view::npos) return range;
  const uint64_t length = FS_TRY(parse_size(text.substr(colon + 1)));
  if (__builtin_add_overflow(range.offset, length, &range.end)) range.end = UINT64_MAX;
  return range;
}

// One line an interval, or a run of blocks without tuples.
class Printer {
 public:
  explicit Printer(bool json) : json_(json) {}
  void print(const nlohmann::json& run) {
    const uint64_t first = run.value("file_block", uint64_t{0});
    const uint64_t blocks = run.value("blocks", uint64_t{0});
    const std::string kind = run.value("kind", "?");
    const std::string tuples = run.value("tuples", "");
    if (tuples.empty() || blocks == 0) return print_bare(first, blocks, kind);
    const uint64_t per_block = tuples.size() / kTupleDigits / blocks;
    for (uint64_t i = 0; i < blocks * per_block; ++i) {
      print_tuple(first * kBlockSize + i * (kBlockSize / per_block),
                  run.value("block", uint64_t{0}) + i / per_block,
                  std::string_view(tuples).substr(i * kTupleDigits, kTupleDigits));
    }
  }
  void finish() {
    if (json_) std::puts(all_.dump().c_str());
  }

 private:
  void print_bare(uint64_t first, uint64_t blocks, const std::string& kind) {
    if (json_) {
      all_.push_back(
          {{"offset", first * kBlockSize}, {"length", blocks * kBlockSize}, {"kind", kind}});
    } else {
      fmt::print("{:>14}  {} of {} bytes\n", first * kBlockSize, kind, blocks * kBlockSize);
    }
  }
  void print_tuple(uint64_t offset, uint64_t lba, std::string_view digits) {
    const auto guard = digits.substr(0, 4), app_tag = digits.substr(4, 4);
    const auto reference_tag = digits.substr(8);
    if (json_) {
      all_.push_back({{"offset", offset},
                      {"block", lba},
                      {"guard", fmt::format("0x{}", guard)},
                      {"app_tag", fmt::format("0x{}", app_tag)},
                      {"reference_tag", fmt::format("0x{}", reference_tag)}});
    } else {
      fmt::print("{:>14}  block {}  guard 0x{}  app 0x{}  ref 0x{}\n", offset, lba, guard, app_tag,
                 reference_tag);
    }
  }

  const bool json_;
  nlohmann::json all_ = nlohmann::json::array();
};

Result<nlohmann::json> read_runs(const std::string& path, int file, uint64_t first_block,
                                 uint64_t blocks) {
  std::string value(kLargestAttribute, '\0');
  const std::string name = fmt::format("{}.{}.{}", kTagsAttribute, first_block, blocks);
  const ssize_t length = ::fgetxattr(file, name.c_str(), value.data(), value.size());
  if (length < 0) {
    if (errno != ENOTSUP) return system_error(path);
    return Error(ErrorCode::invalid_argument, path + " is not a file of a mounted stablefs");
  }
  value.resize(static_cast<size_t>(length));
  auto runs = nlohmann::json::parse(value, nullptr, false);
  if (runs.is_array()) return runs;
  return Error(ErrorCode::invalid_argument, path + ": the daemon's answer is not valid");
}

Status print_tags(const std::string& path, const Bytes& range, Printer& printer) {
  const OpenedFile file(path);
  struct stat info {};
  if (file.descriptor < 0 || ::fstat(file.descriptor, &info) != 0) return system_error(path);
  if (!S_ISREG(info.st_mode)) {
    return Error(ErrorCode::invalid_argument, path + " is not a regular file");
  }
  // What is not on the device yet has no tuples.
  if (::fsync(file.descriptor) != 0) return system_error(path);
  const uint64_t end_bytes = std::min<uint64_t>(range.end, static_cast<uint64_t>(info.st_size));
  const uint64_t end_block = blocks_for_bytes(end_bytes);
  for (uint64_t block = range.offset / kBlockSize; block < end_block;) {
    const uint64_t blocks = std::min<uint64_t>(kTagsBlocksMax, end_block - block);
    const auto runs = FS_TRY(read_runs(path, file.descriptor, block, blocks));
    for (const auto& run : runs) printer.print(run);
    block += blocks;
  }
  return {};
}

}  // namespace

int tags_main(int argc, char** argv) {
  CLI::App app("Prints the protection information of a file: guard, application, reference tag.");
  std::string path, range_text;
  bool json = false;
  app.add_option("FILE", path, "a file of a mounted filesystem")->required();
  app.add_option("--range", range_text, "only blocks that these bytes touch: OFFSET:LENGTH");
  app.add_flag("--json", json, "one JSON array of objects");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  const Result<Bytes> range = parse_range(range_text.empty() ? "0" : range_text);
  if (!range.ok()) return fail(argv[0], range.error(), kExitUsage);
  Printer printer(json);
  const Status status = print_tags(path, *range, printer);
  if (!status.ok()) return fail(argv[0], status.error());
  printer.finish();
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  return written ? 0 : fail(argv[0], "writing the output failed");
}

}  // namespace stablefs
