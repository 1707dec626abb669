// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/crash_check.h"

#include <fmt/format.h>

#include "check/check.h"
#include "fs/file_system.h"
#include "tools/crash_mount.h"

namespace stablefs {
namespace {

constexpr int kCannotExecute = 126;  // sh(1); 127: there is no such command
constexpr int kNoSuchCommand = 127;

void append_lines(const std::string& text, std::vector<std::string>& lines) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back("check: " + text.substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace

Result<std::vector<std::string>> CrashCheck::check(const CrashState& state) {
  OverlayDevice device(state.image);
  std::vector<std::string> problems = recover(device);
  if (problems.empty()) problems = check_filesystem_on(device);
  if (!problems.empty() || command_.empty()) return problems;
  return ask_command(device, state);
}

std::vector<std::string> CrashCheck::recover(OverlayDevice& device) {
  NullLogger logger;
  FileSystemOptions options;
  options.clock = &clock_;
  options.logger = &logger;
  const auto fs = FileSystem::open(device, options);
  if (!fs.ok()) return {"mount: " + fs.error().message()};
  const Status status = (*fs)->close();
  if (!status.ok()) return {"unmount: " + status.error().message()};
  return {};
}

std::vector<std::string> CrashCheck::check_filesystem_on(OverlayDevice& device) {
  NullLogger logger;
  std::vector<std::string> problems;
  CheckOptions options;
  options.verify_data = true;
  options.report = [&](const Problem& problem) { problems.push_back("fsck: " + problem.text()); };
  const auto report = check_filesystem(device, options, clock_, logger);
  if (!report.ok()) return {"fsck: " + report.error().message()};
  // What is only degraded was told too, but is no violation.
  if (report->clean()) return {};
  if (problems.empty()) problems.emplace_back("fsck: not clean");
  return problems;
}

Result<std::vector<std::string>> CrashCheck::ask_command(OverlayDevice& device,
                                                         const CrashState& state) {
  NullLogger logger;
  const auto mount = FS_TRY(CrashMount::start(device, directory_, clock_, logger));
  const CommandOutcome outcome =
      FS_TRY(run_command(command_, directory_,
                         {{"STABLEFS_CRASH_DIR", directory_},
                          {"STABLEFS_CRASH_STATE", state.id.text()},
                          {"STABLEFS_CRASH_MARKS", fmt::format("{}", state.marks)},
                          {"STABLEFS_CRASH_MARK", state.last_mark}},
                         stop_));
  std::vector<std::string> lines;
  if (outcome.status == 0) return lines;
  append_lines(outcome.output, lines);
  if (outcome.status == kCannotExecute || outcome.status == kNoSuchCommand) {
    return Error(ErrorCode::invalid_argument,
                 "the check cannot be run: " + (lines.empty() ? command_ : lines.front()));
  }
  lines.insert(lines.begin(), fmt::format("the check exits {}", outcome.status));
  return lines;
}

}  // namespace stablefs
