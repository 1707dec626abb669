// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/crash_bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "device/source_file.h"

namespace stablefs {
namespace {

Error bundle_error(const std::string& path) {
  return Error(ErrorCode::invalid_argument, fmt::format("{}: {}", path, std::strerror(errno)));
}

Status write_at(int descriptor, std::span<const std::byte> bytes, uint64_t offset_bytes,
                const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return bundle_error(path);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset_bytes += static_cast<uint64_t>(written);
  }
  return {};
}

Result<Descriptor> create(const std::string& path, mode_t mode) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!file.valid()) return bundle_error(path);
  return file;
}

Status write_text(const std::string& path, const std::string& text, mode_t mode) {
  const Descriptor file = FS_TRY(create(path, mode));
  return write_at(file.get(), std::as_bytes(std::span(text.data(), text.size())), 0, path);
}

Status write_image(const std::string& path, const ImageOverlay& image) {
  const Descriptor file = FS_TRY(create(path, 0600));
  const uint64_t size_bytes = image.block_count() * kBlockSize;
  if (::ftruncate(file.get(), static_cast<off_t>(size_bytes)) != 0) return bundle_error(path);
  for (const Lba lba : image.populated({Lba(0), image.block_count()})) {
    FS_TRY(write_at(file.get(), *image.page(lba), lba.value * kBlockSize, path));
  }
  return {};
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return {};
  return bundle_error(path);
}

}  // namespace

std::string shell_quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

Status write_crash_bundle(const std::string& directory, const CrashState& state,
                          const std::vector<std::string>& problems, const std::string& replay) {
  FS_TRY(make_directory(directory));
  const std::string path = directory + "/" + state.id.text();
  FS_TRY(make_directory(path));
  std::string report = fmt::format("state {}\n", state.id.text());
  for (const std::string& problem : problems) report += problem + "\n";
  report += "\n" + state.describe() + "\nreplay: " + replay + "\n";
  FS_TRY(write_text(path + "/report.txt", report, 0666));
  FS_TRY(write_text(path + "/replay.sh", "#!/bin/sh\nexec " + replay + "\n", 0777));
  return write_image(path + "/image", state.image);
}

}  // namespace stablefs
