// SPDX-License-Identifier: GPL-2.0-or-later
// mkfs.stablefs SOURCE: makes an empty filesystem, after making sure that nothing of value and
// nobody is there.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "base/prng.h"
#include "device/open.h"
#include "format/superblock.h"
#include "store/store.h"
#include "tools/command_line.h"
#include "tools/mains.h"
#include "tools/signatures.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

constexpr size_t kLabelBytesMax = 63;

struct MkfsArguments {
  std::string source;
  bool force = false, quiet = false;
  std::string label, uuid, size, journal_size, hash_seed, timestamp;
  unsigned copies = 1, interval = 4096;
};

struct Plan {
  FormatOptions format;
  std::optional<uint64_t> size_bytes;
};

using Bytes16 = std::array<uint8_t, 16>;

Result<Bytes16> random_uuid() {
  Bytes16 out = random_bytes16();
  out[6] = static_cast<uint8_t>((out[6] & 0x0F) | 0x40);  // version 4
  out[8] = static_cast<uint8_t>((out[8] & 0x3F) | 0x80);  // RFC 4122 variant
  return out;
}

// The same epoch for the same image: only when everything else is given too, so nobody relies on
// its being unique.
Bytes16 derived_epoch(const Bytes16& uuid, const Bytes16& hash_seed) {
  uint64_t words[4];
  std::memcpy(&words[0], uuid.data(), 16);
  std::memcpy(&words[2], hash_seed.data(), 16);
  uint64_t mixed = 0;
  for (const uint64_t word : words) mixed = Prng(mixed ^ word).next();
  Prng prng(mixed);
  Bytes16 epoch;
  for (size_t half = 0; half < 2; ++half) {
    const uint64_t word = prng.next();
    std::memcpy(epoch.data() + 8 * half, &word, 8);
  }
  return epoch;
}

Result<Plan> make_plan(const MkfsArguments& arguments) {
  Plan plan;
  FormatOptions& format = plan.format;
  if (arguments.label.size() > kLabelBytesMax) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("a label has at most {} bytes", kLabelBytesMax));
  }
  format.label = arguments.label;
  format.uuid = FS_TRY(arguments.uuid.empty() ? random_uuid() : parse_hex16(arguments.uuid));
  format.hash_seed =
      FS_TRY(arguments.hash_seed.empty() ? random_bytes16() : parse_hex16(arguments.hash_seed));
  SystemClock clock;
  format.created = clock.wall_time();
  if (!arguments.timestamp.empty()) {
    const uint64_t seconds = FS_TRY(parse_number(arguments.timestamp));
    format.created = {static_cast<int64_t>(seconds), 0};
  }
  const bool given =
      !arguments.uuid.empty() && !arguments.hash_seed.empty() && !arguments.timestamp.empty();
  format.epoch = given ? derived_epoch(format.uuid, format.hash_seed) : random_bytes16();
  format.copies = static_cast<uint8_t>(arguments.copies);
  format.interval = arguments.interval == 512 ? Interval::sector_512 : Interval::block_4096;
  if (!arguments.journal_size.empty()) {
    format.journal_blocks = FS_TRY(parse_size(arguments.journal_size)) / kBlockSize;
    if (format.journal_blocks == 0) {
      return Error(ErrorCode::invalid_argument, "the journal size is too small");
    }
  }
  if (!arguments.size.empty()) plan.size_bytes = FS_TRY(parse_size(arguments.size));
  // Without privileges only the maker can mount it, and must be able to write to it then.
  format.root_uid = ::geteuid();
  format.root_gid = ::getegid();
  return plan;
}

Error source_error(const std::string& source, int error) {
  return Error(ErrorCode::source_invalid, fmt::format("{}: {}", source, std::strerror(error)));
}

// The image file, when we make it; removed again unless all went well.
class NewImage {
 public:
  ~NewImage() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Status create(const std::string& path, uint64_t size_bytes) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return source_error(path, errno);
    path_ = path;
    const int error = ::ftruncate(file, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
    ::close(file);
    if (error != 0) return source_error(path, error);
    return {};
  }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

Status check_content(const MkfsArguments& arguments, int descriptor, BlockDevice& device) {
  if (arguments.force) return {};
  if (const auto found = FS_TRY(find_signature(descriptor))) {
    return Error(ErrorCode::source_holds_data, fmt::format("{}: {}", arguments.source, *found));
  }
  if (read_superblock(device).ok()) {
    return Error(ErrorCode::source_holds_data,
                 fmt::format("{}: stablefs filesystem", arguments.source));
  }
  return {};
}

// An image is cut or extended to the size asked for; a device has the size it has.
Status resize_image(const std::string& source, int descriptor, uint64_t size_bytes) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) return source_error(source, errno);
  if (S_ISREG(info.st_mode)) {
    if (::ftruncate(descriptor, static_cast<off_t>(size_bytes)) != 0) {
      return source_error(source, errno);
    }
    return {};
  }
  uint64_t device_bytes = 0;
  if (::ioctl(descriptor, BLKGETSIZE64, &device_bytes) != 0) return source_error(source, errno);
  if (device_bytes != size_bytes) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{} has {} bytes; --size is for images", source, device_bytes));
  }
  return {};
}

Result<std::unique_ptr<SourceDevice>> open_exclusively(const std::string& source, Logger& logger) {
  OpenDeviceOptions options;
  options.exclusive_wait_ms = kPredecessorWaitMs;
  return open_source(source, options, logger);
}

// Before anything is cut, wiped or written: a refusal leaves what was there.
Status check_layout(const Plan& plan, uint64_t block_count) {
  if (plan.size_bytes) block_count = *plan.size_bytes / kBlockSize;
  const auto layout = make_layout(block_count, plan.format.journal_blocks);
  if (!layout.ok()) return layout.error();
  return {};
}

Status format_source(const MkfsArguments& arguments, const Plan& plan, const std::string& source,
                     int descriptor) {
  StderrLogger logger(LogLevel::warning);
  std::unique_ptr<SourceDevice> device = FS_TRY(open_exclusively(source, logger));
  FS_TRY(check_content(arguments, descriptor, *device));
  FS_TRY(check_layout(plan, device->block_count()));
  if (plan.size_bytes) {
    FS_TRY(resize_image(source, descriptor, *plan.size_bytes));
    device.reset();
    device = FS_TRY(open_exclusively(source, logger));
  }
  FS_TRY(wipe_signatures(descriptor));
  FS_TRY(format_device(*device, plan.format));
  // A block device's page cache may hold what was there.
  ::ioctl(descriptor, BLKFLSBUF, 0);
  if (arguments.quiet) return {};
  fmt::print("{}: stablefs, {} MiB, uuid {}{}{}\n", arguments.source,
             device->block_count() / (1048576 / kBlockSize),
             uuid_text(reinterpret_cast<const uint8_t(&)[16]>(*plan.format.uuid.data())),
             plan.format.label.empty() ? "" : ", label ", plan.format.label);
  return {};
}

Status check_nobody_there(const std::string& source) {
  if (const auto user = in_use(source)) return Error(ErrorCode::device_busy, *user);
  if (const auto loop = attached_loop_device(source)) {
    return Error(ErrorCode::device_busy, fmt::format("{} is in use by {}", source, *loop));
  }
  if (write_protected(source)) {
    return Error(ErrorCode::device_open, source + " is write-protected");
  }
  return {};
}

Status make_filesystem(const MkfsArguments& arguments) {
  const Plan plan = FS_TRY(make_plan(arguments));
  NewImage image;
  struct stat info {};
  if (::stat(arguments.source.c_str(), &info) != 0) {
    if (errno != ENOENT) return source_error(arguments.source, errno);
    if (!plan.size_bytes) {
      return Error(ErrorCode::source_invalid,
                   arguments.source + ": does not exist (--size makes an image file)");
    }
    FS_TRY(image.create(arguments.source, *plan.size_bytes));
  } else if (!S_ISBLK(info.st_mode) && !S_ISREG(info.st_mode)) {
    return Error(ErrorCode::source_invalid, arguments.source);
  }
  char* const resolved = ::realpath(arguments.source.c_str(), nullptr);
  if (resolved == nullptr) return source_error(arguments.source, errno);
  const std::string source(resolved);
  ::free(resolved);
  FS_TRY(check_nobody_there(source));
  // Probing and wiping are not aligned as direct I/O must be.
  const int descriptor = ::open(source.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return source_error(source, errno);
  const Status status = format_source(arguments, plan, source, descriptor);
  ::close(descriptor);
  if (status.ok()) image.keep();
  return status;
}

}  // namespace

int mkfs_main(int argc, char** argv) {
  CLI::App app("Makes an empty stablefs filesystem on SOURCE, a block device or an image file.");
  MkfsArguments arguments;
  bool ignored = false;
  app.add_option("SOURCE", arguments.source, "block device or image file")->required();
  app.add_flag("-f,--force", arguments.force, "overwrite a filesystem or partition table");
  app.add_flag("-q", arguments.quiet, "print nothing when all goes well");
  app.add_option("-L,--label", arguments.label, "label, at most 63 bytes");
  app.add_option("-U,--uuid", arguments.uuid, "UUID instead of a random one");
  app.add_option("--size", arguments.size, "size; makes the image file when there is none");
  app.add_option("--journal-size", arguments.journal_size, "size of the journal");
  app.add_option("--copies", arguments.copies, "copies of each metadata block: 1 or 2")
      ->check(CLI::IsMember({1u, 2u}));
  app.add_option("--interval", arguments.interval, "bytes a guard tag protects: 4096 or 512")
      ->check(CLI::IsMember({4096u, 512u}));
  app.add_option("--hash-seed", arguments.hash_seed, "seed of the name hash, 32 hex digits");
  app.add_option("--timestamp", arguments.timestamp, "time of creation, seconds since 1970");
  app.add_flag("-v,-V", ignored)->group("");  // mkfs(8) passes them on
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  const Status status = make_filesystem(arguments);
  return status.ok() ? 0 : fail(argv[0], status.error());
}

}  // namespace stablefs
