// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/caller.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

namespace stablefs {
namespace {

std::string proc_path(uint32_t pid, std::string_view file) {
  return "/proc/" + std::to_string(pid) + "/" + std::string(file);
}

std::string status_of(uint32_t pid) {
  std::ifstream file(proc_path(pid, "status"));
  return {std::istreambuf_iterator<char>(file), {}};
}

bool in_our_user_namespace(uint32_t pid) {
  struct stat ours {
  }, theirs{};
  return ::stat("/proc/self/ns/user", &ours) == 0 &&
         ::stat(proc_path(pid, "ns/user").c_str(), &theirs) == 0 && ours.st_dev == theirs.st_dev &&
         ours.st_ino == theirs.st_ino;
}

bool has_capability(uint32_t pid, uint32_t capability) {
  return in_our_user_namespace(pid) && status_has_capability(status_of(pid), capability);
}

// The rest of the line that begins with `name`; empty when there is none.
std::string_view line_of(std::string_view status, std::string_view name) {
  for (size_t begin = 0; begin < status.size();) {
    const size_t end = std::min(status.find('\n', begin), status.size());
    const std::string_view line = status.substr(begin, end - begin);
    if (line.starts_with(name)) return line.substr(name.size());
    begin = end + 1;
  }
  return {};
}

// Takes the number in front; spaces before it go with it.
std::optional<uint64_t> take_number(std::string_view& text, int base) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

}  // namespace

bool status_has_group(std::string_view status, gid_t group) {
  std::string_view groups = line_of(status, "Groups:");
  while (const auto number = take_number(groups, 10)) {
    if (*number == group) return true;
  }
  return false;
}

bool status_has_capability(std::string_view status, uint32_t capability) {
  std::string_view line = line_of(status, "CapEff:");
  const auto effective = take_number(line, 16);
  return effective && (*effective >> capability & 1) != 0;
}

bool Caller::may_act_for(uid_t owner) const {
  return uid_ == owner || has_capability(pid_, CAP_FOWNER);
}

bool Caller::may_keep_sgid(gid_t group) const {
  return gid_ == group || status_has_group(status_of(pid_), group) || may_keep_set_ids();
}

bool Caller::may_keep_set_ids() const {
  return has_capability(pid_, CAP_FSETID);
}

bool Caller::may_manage() const {
  const uid_t daemon = ::geteuid();
  if (daemon != 0 && (uid_ == 0 || uid_ == daemon)) return true;
  return has_capability(pid_, CAP_SYS_ADMIN);
}

SetIds cost_of_change(const Caller& caller, const Attributes& attributes) {
  const uint32_t mode = attributes.mode;
  if ((mode & (S_ISUID | S_ISGID)) == 0 || S_ISDIR(mode)) return SetIds::keep;
  const bool in_question = (mode & S_ISGID) != 0 && (mode & S_IXGRP) == 0;
  return in_question && !caller.may_keep_sgid(attributes.gid) ? SetIds::clear_all : SetIds::clear;
}

}  // namespace stablefs
