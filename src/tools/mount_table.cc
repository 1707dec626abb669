// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/mount_table.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace stablefs {
namespace {

// Blanks, tabs, newlines and backslashes stand as \NNN.
std::string unescaped(std::string_view text) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) &&
        octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 |
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  while (!line.empty()) {
    const size_t end = std::min(line.find(' '), line.size());
    if (end > 0) fields.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return fields;
}

std::optional<dev_t> parse_device(std::string_view text) {
  unsigned numbers[2] = {};
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view parts[2] = {text.substr(0, colon), text.substr(colon + 1)};
  for (int i = 0; i < 2; ++i) {
    const char* end = parts[i].data() + parts[i].size();
    if (std::from_chars(parts[i].data(), end, numbers[i]).ptr != end) return std::nullopt;
  }
  return makedev(numbers[0], numbers[1]);
}

// ID PARENT MAJ:MIN ROOT DIRECTORY OPTIONS [TAGS...] - TYPE SOURCE SUPEROPTIONS
std::optional<MountEntry> parse_line(std::string_view line) {
  const std::vector<std::string_view> fields = fields_of(line);
  const auto separator = std::find(fields.begin(), fields.end(), "-");
  if (separator - fields.begin() < 6 || fields.end() - separator < 3) return std::nullopt;
  const std::optional<dev_t> device = parse_device(fields[2]);
  if (!device) return std::nullopt;
  MountEntry entry;
  entry.device = *device;
  entry.root = unescaped(fields[3]);
  entry.directory = unescaped(fields[4]);
  entry.type = unescaped(separator[1]);
  entry.source = unescaped(separator[2]);
  return entry;
}

}  // namespace

std::vector<MountEntry> parse_mount_table(std::string_view mountinfo) {
  std::vector<MountEntry> entries;
  while (!mountinfo.empty()) {
    const size_t end = std::min(mountinfo.find('\n'), mountinfo.size());
    if (std::optional<MountEntry> entry = parse_line(mountinfo.substr(0, end))) {
      entries.push_back(std::move(*entry));
    }
    mountinfo.remove_prefix(std::min(end + 1, mountinfo.size()));
  }
  return entries;
}

std::vector<MountEntry> read_mount_table() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_mount_table(text.str());
}

std::optional<MountEntry> mounted_at(const std::string& directory) {
  std::optional<MountEntry> found;
  for (MountEntry& entry : read_mount_table()) {
    if (entry.directory == directory) found = std::move(entry);  // later ones cover earlier ones
  }
  return found;
}

bool answers(const MountEntry& entry) {
  struct statvfs unused {};
  return ::statvfs(entry.directory.c_str(), &unused) == 0 ||
         (errno != ENOTCONN && errno != ECONNABORTED);
}

void retire_dead_mounts(dev_t device) {
  std::vector<MountEntry> entries = read_mount_table();
  std::reverse(entries.begin(), entries.end());
  for (const MountEntry& entry : entries) {
    if (entry.device != device || !entry.stablefs() || answers(entry)) continue;
    // Forcing retires the superblock even when open files keep the directory busy.
    if (::umount2(entry.directory.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW) != 0) {
      ::umount2(entry.directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
  }
}

}  // namespace stablefs
