// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs info SOURCE|DIR: what a filesystem is and, when mounted, how and served by whom.
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "device/open.h"
#include "store/store.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"

namespace stablefs {
namespace {

int print_mounted(const char* program, const std::string& directory) {
  const Result<DaemonInfo> info = read_info(directory);
  if (!info.ok()) return fail(program, info.error());
  const auto facts = nlohmann::json::parse(info->json, nullptr, false);
  for (const auto& [name, value] : facts.items()) {
    fmt::print("{:<16} {}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
  return 0;
}

int print_source(const char* program, const std::string& source) {
  NullLogger logger;
  OpenDeviceOptions options;
  options.read_only = true;
  options.exclusive = false;
  const auto device = open_source(source, options, logger);
  if (!device.ok()) return fail(program, device.error());
  const Result<DiskSuperblock> read = read_superblock(**device);
  if (!read.ok()) return fail(program, fmt::format("{}: {}", source, read.error().message()));
  const DiskSuperblock& superblock = *read;
  const auto line = [](const char* name, const auto& value) {
    fmt::print("{:<16} {}\n", name, value);
  };
  line("clean", superblock.clean ? "true" : "false");
  line("copies", superblock.copies);
  line("created", uint64_t{superblock.created_seconds});
  line("generation", uint64_t{superblock.generation});
  line("interval", uint32_t{superblock.interval});
  line("journal_bytes", uint64_t{superblock.journal_length_blocks} * kBlockSize);
  line("label", std::string(superblock.label, ::strnlen(superblock.label, 64)));
  line("size_bytes", uint64_t{superblock.block_count} * kBlockSize);
  line("uuid", uuid_text(superblock.uuid));
  line("version", uint32_t{superblock.version});
  return 0;
}

}  // namespace

int info_main(int argc, char** argv) {
  CLI::App app("Prints what a filesystem is and, for a mounted one, how it is mounted.");
  std::string place;
  app.add_option("PLACE", place, "a directory it is mounted at, a block device or an image file")
      ->required();
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  struct stat info {};
  const bool directory = ::stat(place.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  return directory ? print_mounted(argv[0], place) : print_source(argv[0], place);
}

}  // namespace stablefs
