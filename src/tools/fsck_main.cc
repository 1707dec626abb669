// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs fsck SOURCE: checks a filesystem that is not mounted. Exit status as fsck(8).
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "check/check.h"
#include "device/open.h"
#include "tools/command_line.h"
#include "tools/mains.h"
#include "tools/source_use.h"

namespace stablefs {
namespace {

constexpr int kExitClean = 0;
constexpr int kExitUncorrected = 4;
constexpr int kExitOperational = 8;
constexpr int kExitFsckUsage = 16;
constexpr uint64_t kProgressSteps = 64;  // lines of a pass shown at most

struct Arguments {
  std::string source;
  bool no_changes = false;
  bool data = false;
  bool automatic = false;
  bool force = false;
  bool verbose = false;
  bool progress = false;
};

void print_summary(const CheckReport& report) {
  fmt::print("{} nodes, {} items, {} inodes ({} directories, {} files, {} symlinks, {} others)\n",
             report.nodes, report.items, report.inodes, report.directories, report.files,
             report.symlinks, report.others);
  fmt::print("{} entries, {} extents, {} data blocks, {} unwritten blocks, {} orphans\n",
             report.entries, report.extents, report.data_blocks, report.unwritten_blocks,
             report.orphans);
  fmt::print("{} journal batches, {} transactions replayed in memory, {} blocks verified\n",
             report.journal_batches, report.replayed_records, report.verified_blocks);
  fmt::print("{} blocks on the damage list\n", report.damaged_blocks);
  fmt::print("{} of {} blocks free\n", report.free_blocks, report.total_blocks);
}

void print_verdict(const Arguments& arguments, const CheckReport& report) {
  if (report.incomplete) {
    fmt::print("{}: some checks were left out because of the damage\n", arguments.source);
  }
  if (report.clean()) {
    const std::string damaged =
        report.damaged_blocks == 0
            ? ""
            : fmt::format(", {} blocks on the damage list", report.damaged_blocks);
    fmt::print("{}: clean, {} files, {} directories, {}/{} blocks free{}\n", arguments.source,
               report.inodes - report.directories, report.directories, report.free_blocks,
               report.total_blocks, damaged);
    return;
  }
  fmt::print("{}: {} problems found, left uncorrected{}\n", arguments.source, report.problems,
             arguments.no_changes ? "" : ": this version cannot repair");
}

void show_progress(const char* pass, uint64_t done, uint64_t total) {
  if (total == 0) {
    fmt::print(stderr, "\r{}: {}   ", pass, done);
  } else if (done == total || done % std::max<uint64_t>(1, total / kProgressSteps) == 0) {
    fmt::print(stderr, "\r{}: {}/{}   {}", pass, done, total, done == total ? "\n" : "");
  }
}

// fsck(8) passes the progress descriptor in the same word ("-C0").
std::vector<char*> without_progress_descriptor(int argc, char** argv) {
  static char progress_option[] = "-C";
  std::vector<char*> result(argv, argv + argc);
  for (char*& argument : result) {
    const std::string_view text = argument;
    const bool digits = text.size() > 2 && text.find_first_not_of("0123456789", 2) == text.npos;
    if (text.substr(0, 2) == "-C" && digits) argument = progress_option;
  }
  return result;
}

// The path as lists of mounts have it; unchanged when there is no such file.
std::string canonical(const std::string& path) {
  std::error_code error;
  const auto resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved.string();
}

int check_source(const char* program, const Arguments& arguments) {
  if (const auto reason = in_use(canonical(arguments.source))) {
    return fail(program, *reason, kExitOperational);
  }
  StderrLogger logger(arguments.verbose ? LogLevel::info : LogLevel::error);
  OpenDeviceOptions device_options;
  device_options.read_only = true;
  device_options.exclusive_wait_ms = kPredecessorWaitMs;
  const auto device = open_source(arguments.source, device_options, logger);
  if (!device.ok()) return fail(program, device.error(), kExitOperational);

  CheckOptions options;
  options.verify_data = arguments.data;
  options.report = [](const Problem& problem) { fmt::print("{}\n", problem.text()); };
  if (arguments.progress) options.progress = show_progress;
  SystemClock clock;
  const auto report = check_filesystem(**device, options, clock, logger);
  if (!report.ok()) {
    return fail(program, arguments.source + ": " + report.error().message(), kExitOperational);
  }
  if (arguments.verbose) print_summary(*report);
  print_verdict(arguments, *report);
  return report->clean() ? kExitClean : kExitUncorrected;
}

}  // namespace

int fsck_main(int argc, char** argv) {
  CLI::App app("Checks a filesystem that is not mounted. Nothing is written.");
  Arguments arguments;
  app.add_flag("-n", arguments.no_changes, "check only, change nothing");
  app.add_flag("--data", arguments.data, "read all data and verify it against its guard tags");
  app.add_flag("-a,-p,-y", arguments.automatic, "accepted: there is no repair yet, it only checks");
  app.add_flag("-f", arguments.force, "accepted: it always checks everything");
  app.add_flag("-v", arguments.verbose, "say what was found, and what is being done");
  app.add_flag("-C", arguments.progress, "show progress on stderr");
  app.add_option("SOURCE", arguments.source, "block device or image file")->required();
  auto words = without_progress_descriptor(argc, argv);
  if (const auto status = parse_arguments(app, argc, words.data(), kExitFsckUsage)) return *status;
  return check_source(argv[0], arguments);
}

}  // namespace stablefs
