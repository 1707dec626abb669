// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs dump SOURCE [superblock|journal|tree|inode N|space]: on-disk structures as text.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "check/dump.h"
#include "device/open.h"
#include "tools/command_line.h"
#include "tools/mains.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

struct Arguments {
  std::string source;
  std::string what = "superblock";
  std::string number;
};

Status dump(BlockDevice& device, const Arguments& arguments, Ino ino) {
  auto sink = [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); };
  if (arguments.what == "superblock") return dump_superblock(device, sink);
  if (arguments.what == "journal") return dump_journal(device, sink);
  if (arguments.what == "tree") return dump_tree(device, sink);
  if (arguments.what == "space") return dump_space(device, sink);
  SystemClock clock;
  StderrLogger logger(LogLevel::error);
  return dump_inode(device, ino, clock, logger, sink);
}

// The path as lists of mounts have it; unchanged when there is no such file.
std::string canonical(const std::string& path) {
  std::error_code error;
  const auto resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

}  // namespace

int dump_main(int argc, char** argv) {
  CLI::App app("Prints on-disk structures as text.");
  Arguments arguments;
  app.add_option("SOURCE", arguments.source, "block device or image file")->required();
  app.add_option("WHAT", arguments.what, "superblock (default), journal, tree, inode or space")
      ->check(CLI::IsMember({"superblock", "journal", "tree", "inode", "space"}));
  app.add_option("N", arguments.number, "inode number");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  Ino ino;
  if ((arguments.what == "inode") != !arguments.number.empty()) {
    return fail(argv[0], "a number belongs to \"inode\", and only there", kExitUsage);
  }
  if (arguments.what == "inode") {
    const auto number = parse_number(arguments.number);
    if (!number.ok()) return fail(argv[0], number.error(), kExitUsage);
    ino = Ino(*number);
  }
  if (const auto reason = in_use(canonical(arguments.source))) {
    fmt::print(stderr, "{}: warning: {}: what is printed may be changing\n", argv[0], *reason);
  }
  NullLogger logger;
  OpenDeviceOptions options;
  options.read_only = true;
  options.exclusive = false;
  const auto device = open_source(arguments.source, options, logger);
  if (!device.ok()) return fail(argv[0], device.error());
  const Status status = dump(**device, arguments, ino);
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (!status.ok()) return fail(argv[0], arguments.source + ": " + status.error().message());
  return written ? 0 : fail(argv[0], "writing the output failed");
}

}  // namespace stablefs
