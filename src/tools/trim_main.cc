// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs trim DIR: as fstrim(8), piece by piece, so that it can say how far it is.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"

namespace stablefs {
namespace {

constexpr uint64_t kPieceBytes = 1ull << 30;

struct Trim {
  std::string directory;
  std::string least = "0";
  bool quiet = false;
};

class Directory {
 public:
  explicit Directory(const std::string& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}
  ~Directory() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

Error system_error(const std::string& directory) {
  if (errno == EOPNOTSUPP) {
    return Error(ErrorCode::not_supported, directory + ": the device cannot discard");
  }
  return Error(ErrorCode::invalid_argument, directory + ": " + std::strerror(errno));
}

Status trim(const Trim& wanted, uint64_t device_bytes, uint64_t least_bytes) {
  const Directory directory(wanted.directory);
  if (directory.descriptor() < 0) return system_error(wanted.directory);
  const bool progress = !wanted.quiet && ::isatty(STDERR_FILENO) == 1;
  uint64_t trimmed_bytes = 0;
  for (uint64_t at = 0; at < device_bytes; at += kPieceBytes) {
    fstrim_range range{at, std::min(kPieceBytes, device_bytes - at), least_bytes};
    if (::ioctl(directory.descriptor(), FITRIM, &range) != 0) return system_error(wanted.directory);
    trimmed_bytes += range.len;
    if (progress) {
      fmt::print(stderr, "\r{}%", std::min(at + kPieceBytes, device_bytes) * 100 / device_bytes);
    }
  }
  if (progress) fmt::print(stderr, "\r");
  if (!wanted.quiet) fmt::print("{}: {} bytes trimmed\n", wanted.directory, trimmed_bytes);
  return {};
}

}  // namespace

int trim_main(int argc, char** argv) {
  CLI::App app("Tells the device of the filesystem mounted at DIR which blocks are free.");
  Trim wanted;
  app.add_option("DIR", wanted.directory, "where it is mounted")->required();
  app.add_option("-m,--minimum", wanted.least, "leave out runs of free blocks shorter than this");
  app.add_flag("-q,--quiet", wanted.quiet, "print nothing but errors");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  const Result<uint64_t> least_bytes = parse_size(wanted.least);
  if (!least_bytes.ok()) return fail(argv[0], least_bytes.error());
  const Result<DaemonInfo> info = read_info(wanted.directory);
  if (!info.ok()) return fail(argv[0], info.error());
  const Status status = trim(wanted, info->size_bytes, *least_bytes);
  return status.ok() ? 0 : fail(argv[0], status.error());
}

}  // namespace stablefs
