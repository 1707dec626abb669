// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs damage DIR|SOURCE: the blocks whose contents could not be had, with the files they
// belong to.
#include <errno.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "device/open.h"
#include "fuse/damage_json.h"
#include "stablefs/control.h"
#include "store/store.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

struct Arguments {
  std::string place;
  bool clear = false;
  bool json = false;
};

// The path as lists of mounts have it; unchanged when there is no such file.
std::string canonical(const std::string& path) {
  std::error_code error;
  const auto resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

// --- of a mounted filesystem: from its daemon, in parts

Result<nlohmann::json> list_mounted(const std::string& directory) {
  nlohmann::json entries = nlohmann::json::array();
  std::string name = kControlDamage;
  while (true) {
    const std::string text = FS_TRY(read_control(directory, name.c_str()));
    const auto part = nlohmann::json::parse(text, nullptr, false);
    if (!part.is_object() || !part.contains("entries") || !part.contains("next")) {
      return Error(ErrorCode::invalid_argument, directory + ": the daemon's answer is not valid");
    }
    for (const auto& entry : part["entries"]) entries.push_back(entry);
    if (!part["next"].is_number_unsigned()) return entries;
    name = fmt::format("{}.{}", kControlDamage, part["next"].get<uint64_t>());
  }
}

Status clear_mounted(const std::string& directory) {
  if (::setxattr(directory.c_str(), kControlDamage, kDamageClear, std::strlen(kDamageClear), 0) ==
      0) {
    return {};
  }
  if (errno == ENOTSUP) {
    return Error(ErrorCode::invalid_argument, directory + " is not the root of a mounted stablefs");
  }
  return Error(ErrorCode::invalid_argument, fmt::format("{}: {}", directory, std::strerror(errno)));
}

// --- of a filesystem that is not mounted

Result<std::unique_ptr<Store>> open_store(BlockDevice& device, bool read_only, Clock& clock,
                                          Logger& logger) {
  StoreOptions options;
  options.clock = &clock;
  options.logger = &logger;
  options.read_only = read_only;
  options.background = false;
  options.new_epoch = [](uint8_t epoch[16]) {
    const auto bytes = random_bytes16();
    std::memcpy(epoch, bytes.data(), bytes.size());
  };
  return Store::open(device, options);
}

Result<std::unique_ptr<SourceDevice>> open_unmounted(const std::string& source, bool read_only,
                                                     Logger& logger) {
  if (const auto reason = in_use(canonical(source))) {
    return Error(ErrorCode::device_busy, *reason);
  }
  OpenDeviceOptions options;
  options.read_only = read_only;
  options.exclusive_wait_ms = kPredecessorWaitMs;
  return open_source(source, options, logger);
}

Result<nlohmann::json> list_unmounted(const std::string& source) {
  SystemClock clock;
  StderrLogger logger(LogLevel::error);
  const auto device = FS_TRY(open_unmounted(source, true, logger));
  const auto store = FS_TRY(open_store(*device, true, clock, logger));
  std::vector<DamageEntry> damage = FS_TRY(read_damage(*store, Lba(0), SIZE_MAX));
  find_damage_paths(*store, damage);
  nlohmann::json entries = nlohmann::json::array();
  for (const DamageEntry& entry : damage) entries.push_back(to_json(entry));
  return entries;
}

Status clear_unmounted(const std::string& source) {
  constexpr size_t kStepEntries = 1000;
  SystemClock clock;
  StderrLogger logger(LogLevel::error);
  const auto device = FS_TRY(open_unmounted(source, false, logger));
  const auto store = FS_TRY(open_store(*device, false, clock, logger));
  while (true) {
    const auto damage = FS_TRY(read_damage(*store, Lba(0), kStepEntries));
    if (damage.empty()) break;
    Transaction transaction;
    for (const DamageEntry& entry : damage) transaction.erase(damage_key(entry.lba));
    FS_TRY(store->commit(transaction, false));
  }
  return store->close();
}

void print(const nlohmann::json& entries) {
  for (const auto& entry : entries) {
    fmt::print("{}: offset {} length {} {} {} (inode {}, block {})\n", entry.value("path", "?"),
               entry.value("offset", uint64_t{0}), entry.value("length", uint64_t{0}),
               entry.value("kind", "?"), entry.value("time", "?"),
               entry.value("inode", uint64_t{0}), entry.value("block", uint64_t{0}));
  }
}

}  // namespace

int damage_main(int argc, char** argv) {
  CLI::App app("Lists the blocks whose contents could not be had, with their files.");
  Arguments arguments;
  app.add_option("PLACE", arguments.place,
                 "a directory it is mounted at, a block device or an image file")
      ->required();
  app.add_flag("--clear", arguments.clear, "empty the list instead");
  app.add_flag("--json", arguments.json, "one JSON array of objects");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  struct stat info {};
  const bool mounted = ::stat(arguments.place.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  if (arguments.clear) {
    const Status status =
        mounted ? clear_mounted(arguments.place) : clear_unmounted(arguments.place);
    return status.ok() ? 0 : fail(argv[0], status.error());
  }
  const auto entries = mounted ? list_mounted(arguments.place) : list_unmounted(arguments.place);
  if (!entries.ok()) return fail(argv[0], entries.error());
  if (arguments.json) {
    std::puts(entries->dump().c_str());
  } else {
    print(*entries);
  }
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  return written ? 0 : fail(argv[0], "writing the output failed");
}

}  // namespace stablefs
