// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs dump SOURCE [superblock|journal|tree|inode N|space]: on-disk structures as text;
// stablefs dump DIR in-flight: what a mounted filesystem is writing.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "check/dump.h"
#include "device/open.h"
#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
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

// What a mounted filesystem is writing just now, one line each.
int dump_in_flight(const char* program, const std::string& directory) {
  const Result<std::string> text = read_control(directory, kControlInFlight);
  if (!text.ok()) return fail(program, text.error());
  const nlohmann::json writes = nlohmann::json::parse(*text, nullptr, false);
  if (!writes.is_array()) return fail(program, directory + ": the daemon's answer makes no sense");
  for (const nlohmann::json& write : writes) {
    fmt::print("inode {} blocks {}+{} {} {} {} ms\n", write.value("inode", uint64_t{0}),
               write.value("file_block", uint64_t{0}), write.value("blocks", uint64_t{0}),
               write.value("direct", false) ? "direct" : "buffered", write.value("state", ""),
               write.value("age_ms", uint64_t{0}));
  }
  return 0;
}

int dump_main(int argc, char** argv) {
  CLI::App app(
      "Prints on-disk structures as text; of a mounted filesystem (its directory) with "
      "\"in-flight\" the writes of data under way.");
  Arguments arguments;
  app.add_option("SOURCE", arguments.source, "block device or image file")->required();
  app.add_option("WHAT", arguments.what,
                 "superblock (default), journal, tree, inode, space or in-flight")
      ->check(CLI::IsMember({"superblock", "journal", "tree", "inode", "space", "in-flight"}));
  app.add_option("N", arguments.number, "inode number");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  if (arguments.what == "in-flight") return dump_in_flight(argv[0], arguments.source);
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
