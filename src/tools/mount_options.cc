// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/mount_options.h"

#include <fmt/format.h>
#include <sys/mount.h>

#include <algorithm>

#include "tools/command_line.h"

namespace stablefs {
namespace {

struct FlagWord {
  std::string_view word;
  unsigned long flag;
  bool set;
};

constexpr FlagWord kFlagWords[] = {
    {"ro", MS_RDONLY, true},
    {"rw", MS_RDONLY, false},
    {"nosuid", MS_NOSUID, true},
    {"suid", MS_NOSUID, false},
    {"nodev", MS_NODEV, true},
    {"dev", MS_NODEV, false},
    {"noexec", MS_NOEXEC, true},
    {"exec", MS_NOEXEC, false},
    {"sync", MS_SYNCHRONOUS, true},
    {"async", MS_SYNCHRONOUS, false},
    {"dirsync", MS_DIRSYNC, true},
    {"noatime", MS_NOATIME, true},
    {"atime", MS_NOATIME, false},
    {"nodiratime", MS_NODIRATIME, true},
    {"diratime", MS_NODIRATIME, false},
    {"relatime", MS_RELATIME, true},
    {"norelatime", MS_RELATIME, false},
    {"strictatime", MS_STRICTATIME, true},
    {"nostrictatime", MS_STRICTATIME, false},
    {"lazytime", MS_LAZYTIME, true},
    {"nolazytime", MS_LAZYTIME, false},
    {"silent", MS_SILENT, true},
    {"loud", MS_SILENT, false},
};

// For mount(8), systemd or other FUSE filesystems; nothing for us to do.
constexpr std::string_view kDroppedWords[] = {
    "defaults", "auto",     "noauto",     "user",
    "nouser",   "users",    "owner",      "group",
    "nofail",   "fail",     "_netdev",    "mand",
    "nomand",   "iversion", "noiversion", "default_permissions",
    "nonempty", "blkdev",
};
constexpr std::string_view kDroppedPrefixes[] = {
    "x-",
    "X-",
    "comment=",
    "user=",
    "fsname=",
    "subtype=",
    "uhelper=",
    "helper=",
    // The kernel's list of a FUSE mount's options, which mount(8) passes on with remount.
    "user_id=",
    "group_id=",
    "rootmode=",
    "max_read=",
    "blksize=",
    "fd=",
};

Error bad_option(std::string_view word, std::string_view why) {
  return Error(ErrorCode::bad_option, fmt::format("{}{}{}", word, why.empty() ? "" : ": ", why));
}

bool is_dropped(std::string_view word) {
  const auto starts = [&](std::string_view prefix) { return word.starts_with(prefix); };
  return std::ranges::find(kDroppedWords, word) != std::end(kDroppedWords) ||
         std::ranges::any_of(kDroppedPrefixes, starts);
}

bool apply_flag(std::string_view word, MountOptions& options) {
  for (const FlagWord& known : kFlagWords) {
    if (known.word != word) continue;
    options.mentioned |= known.flag;
    options.flags = known.set ? options.flags | known.flag : options.flags & ~known.flag;
    return true;
  }
  return false;
}

Result<uint64_t> scaled(std::string_view word, std::string_view value, uint64_t unit,
                        uint64_t value_max) {
  const Result<uint64_t> number = parse_number(value);
  if (!number.ok() || *number > value_max) {
    return bad_option(word, fmt::format("a number from 0 to {} is wanted", value_max));
  }
  return *number * unit;
}

Status set_cache(std::string_view word, std::string_view value, FileSystemOptions& options) {
  if (value == "kernel") {
    options.cache = CacheMode::kernel;
  } else if (value == "through") {
    options.cache = CacheMode::through;
  } else if (value == "daemon") {
    options.cache = CacheMode::daemon;
  } else {
    return bad_option(word, "kernel, through or daemon is wanted");
  }
  return {};
}

Status set_errors(std::string_view word, std::string_view value, FileSystemOptions& options) {
  if (value == "remount-ro") {
    options.errors = ErrorPolicy::remount_read_only;
  } else if (value == "continue") {
    options.errors = ErrorPolicy::go_on;
  } else if (value == "abort") {
    options.errors = ErrorPolicy::abort;
  } else {
    return bad_option(word, "remount-ro, continue or abort is wanted");
  }
  return {};
}

Status set_commit(std::string_view word, std::string_view value, FileSystemOptions& options) {
  constexpr uint64_t kSecondsMax = 600;
  const Result<uint64_t> seconds = parse_number(value);
  if (!seconds.ok() || *seconds == 0 || *seconds > kSecondsMax) {
    return bad_option(word, fmt::format("a number from 1 to {} is wanted", kSecondsMax));
  }
  options.commit_interval_ns = *seconds * kNsPerSecond;
  return {};
}

Status set_stable(std::string_view word, std::string_view value, FileSystemOptions& options) {
  const auto policy = parse_stable_policy(value);
  if (!policy) return bad_option(word, "auto, wait or copy is wanted");
  options.stable = *policy;
  return {};
}

Status set_guard(std::string_view word, std::string_view value, FileSystemOptions& options) {
  if (value != "on" && value != "off") return bad_option(word, "on or off is wanted");
  options.guard = value == "on";
  return {};
}

Status set_discard(std::string_view word, std::string_view value, FileSystemOptions& options) {
  if (value != "async" && value != "off") return bad_option(word, "async or off is wanted");
  options.discard = value == "async";
  return {};
}

Status set_verify_dma(std::string_view word, std::string_view value, MountOptions& options) {
  if (value.starts_with("1/")) value.remove_prefix(2);
  const Result<uint64_t> one_in = parse_number(value);
  constexpr uint64_t kOneInMax = 1'000'000'000;
  const bool no_part = one_in.ok() && *one_in == 0 && word.find('/') != word.npos;
  if (!one_in.ok() || *one_in > kOneInMax || no_part)
    return bad_option(word, "1/N, or 0 for none, is wanted");
  options.verify_one_in = *one_in;
  return {};
}

Status apply_own(std::string_view word, MountOptions& options) {
  constexpr uint64_t kHourMs = 3'600'000;
  const size_t equals = std::min(word.find('='), word.size());
  const std::string_view name = word.substr(0, equals);
  const std::string_view value = word.substr(std::min(equals + 1, word.size()));
  FileSystemOptions& filesystem = options.filesystem;
  if (name == "cache") return set_cache(word, value, filesystem);
  if (name == "errors") return set_errors(word, value, filesystem);
  if (name == "commit") return set_commit(word, value, filesystem);
  if (name == "stable") return set_stable(word, value, filesystem);
  if (name == "discard") {
    return set_discard(word, equals == word.size() ? "async" : value, filesystem);
  }
  if (word == "nodiscard") return set_discard(word, "off", filesystem);
  if (name == "guard") return set_guard(word, value, filesystem);
  if (name == "verify_dma") return set_verify_dma(word, value, options);
  if (name == "writeback_delay") {
    filesystem.writeback_delay_ns = FS_TRY(scaled(word, value, kNsPerMs, kHourMs));
  } else if (name == "dirty_limit") {
    const Result<uint64_t> bytes = parse_size(value);
    constexpr uint64_t kLeastBytes = 4 << 20;
    if (!bytes.ok() || *bytes < kLeastBytes) return bad_option(word, "a size from 4M is wanted");
    filesystem.dirty_limit_bytes = *bytes;
  } else if (name == "inject_write_delay") {
    options.injected_delay_ns = FS_TRY(scaled(word, value, kNsPerMs, kHourMs));
  } else if (name == "inject_write_errors") {
    constexpr uint64_t kOneInMax = 1'000'000;
    options.injected_error_one_in = FS_TRY(scaled(word, value, 1, kOneInMax));
  } else if (name == "iolog") {
    if (value.empty()) return bad_option(word, "a file is wanted");
    options.iolog = value;
  } else {
    return bad_option(word, "");
  }
  return {};
}

Status apply(std::string_view word, MountOptions& options) {
  if (word == "remount") {
    options.remount = true;
  } else if (word == "allow_other") {
    options.allow_other = true;
  } else if (word == "unsafe") {
    options.unsafe = true;
  } else if (!apply_flag(word, options) && !is_dropped(word)) {
    return apply_own(word, options);
  }
  return {};
}

AtimePolicy atime_policy(unsigned long flags) {
  if (flags & MS_NOATIME) return AtimePolicy::noatime;
  if (flags & MS_STRICTATIME) return AtimePolicy::strictatime;
  return AtimePolicy::relatime;
}

// What breaks a promise takes two words.
Status check_unsafe(const MountOptions& options) {
  if (options.unsafe) return {};
  constexpr const char* kWhy = "breaks what this filesystem promises; only together with unsafe";
  if (options.filesystem.stable == StablePolicy::off) return bad_option("stable=off", kWhy);
  if (!options.filesystem.guard) return bad_option("guard=off", kWhy);
  return {};
}

}  // namespace

Result<MountOptions> parse_mount_options(std::string_view words) {
  MountOptions options;
  if (!words.empty()) options.text = words;
  options.filesystem.discard = true;
  while (!words.empty()) {
    const size_t end = std::min(words.find(','), words.size());
    const std::string_view word = words.substr(0, end);
    if (!word.empty()) FS_TRY(apply(word, options));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  if (!options.iolog.empty() && (options.flags & MS_RDONLY) != 0) {
    return bad_option("iolog", "a read-only mount writes nothing to record");
  }
  FS_TRY(check_unsafe(options));
  options.filesystem.read_only = (options.flags & MS_RDONLY) != 0;
  options.filesystem.atime = atime_policy(options.flags);
  options.filesystem.directory_atime = (options.flags & MS_NODIRATIME) == 0;
  return options;
}

}  // namespace stablefs
