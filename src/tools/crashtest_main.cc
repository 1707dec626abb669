// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs crashtest IOLOG: what a crash may have left of a recorded device, tried one by one.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "device/crash_images.h"
#include "device/io_log.h"
#include "device/source_file.h"
#include "tools/command_line.h"
#include "tools/crash_bundle.h"
#include "tools/crash_check.h"
#include "tools/mains.h"

namespace stablefs {
namespace {

constexpr int kExitViolations = 1;
constexpr int kExitTrouble = 2;
constexpr uint64_t kBundlesMax = 20;  // each holds an image
constexpr uint64_t kLinesMax = 10;    // printed of one state
constexpr uint64_t kProgressIntervalNs = 200 * kNsPerMs;

std::atomic<bool> interrupted{false};

// Nobody may be listening any more, as with "| head"; that interrupts us and is no exception.
void say(const std::string& text) {
  std::fputs(text.c_str(), stdout);
}

// A mount and a directory of ours must not stay behind.
void catch_interruptions() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    ::sigaction(signal, &action, nullptr);
  }
}

struct Arguments {
  std::string log;
  uint64_t images = 1000;
  uint64_t seed = 1;
  std::string bundle;
  std::string command;
  std::string state;
};

// An empty directory that goes away again.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::error_code error;
    path_ = std::filesystem::temp_directory_path(error) / "stablefs-crash-XXXXXX";
    if (error || ::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~ScratchDirectory() {
    if (!path_.empty()) ::rmdir(path_.c_str());
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result<std::vector<std::byte>> read_file(const std::string& path) {
  const auto trouble = [&](const char* why) {
    return Error(ErrorCode::invalid_argument, path + ": " + why);
  };
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0) return trouble(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return trouble("not a file");
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(file.get(), &bytes[done], bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return trouble(std::strerror(errno));
    if (got == 0) bytes.resize(done);
    done += static_cast<size_t>(got);
  }
  return bytes;
}

Result<IoLog> load(const std::string& path) {
  const std::vector<std::byte> bytes = FS_TRY(read_file(path));
  IoLog log = FS_TRY(parse_io_log(bytes));
  const auto recorded = [](const IoEvent& event) {
    return event.kind == IoEventKind::submit && event.op != DeviceOp::read;
  };
  if (std::ranges::none_of(log.events, recorded)) {
    return Error(ErrorCode::invalid_argument,
                 path + ": nothing was written, or the recording was cut off before");
  }
  return log;
}

class CrashTest {
 public:
  CrashTest(const Arguments& arguments, const char* program, const IoLog& log,
            const std::string& directory)
      : arguments_(arguments),
        program_(program),
        images_(log, base_of(log), {arguments.images, arguments.seed, !arguments.command.empty()}),
        check_(arguments.command, directory, &interrupted) {}

  int run_all();
  int run_one(const CrashStateId& id);

 private:
  Result<bool> passes(const CrashState& state);
  void show_progress(bool last);
  std::string replay_command(const CrashStateId& id) const;

  const Arguments& arguments_;
  const char* const program_;
  CrashImages images_;
  CrashCheck check_;
  SystemClock clock_;
  const uint64_t began_ns_ = clock_.monotonic_ns();
  uint64_t shown_ns_ = 0;
  uint64_t checked_ = 0;
  uint64_t violations_ = 0;
};

std::string CrashTest::replay_command(const CrashStateId& id) const {
  std::error_code error;
  const auto path = std::filesystem::absolute(arguments_.log, error);
  std::string command =
      fmt::format("stablefs crashtest {} --seed {} --state {}",
                  shell_quoted(error ? arguments_.log : path.string()), arguments_.seed, id.text());
  if (!arguments_.command.empty()) command += " --check " + shell_quoted(arguments_.command);
  return command;
}

// Says what is wrong, and keeps it.
Result<bool> CrashTest::passes(const CrashState& state) {
  const std::vector<std::string> problems = FS_TRY(check_.check(state));
  ++checked_;
  if (problems.empty()) return true;
  ++violations_;
  if (::isatty(STDERR_FILENO) == 1) fmt::print(stderr, "\r\033[K");
  say(fmt::format("state {}: violation\n", state.id.text()));
  for (size_t i = 0; i < std::min<size_t>(problems.size(), kLinesMax); ++i) {
    say("  " + problems[i] + "\n");
  }
  say("  replay: " + replay_command(state.id) + "\n");
  if (!arguments_.bundle.empty() && violations_ <= kBundlesMax) {
    FS_TRY(write_crash_bundle(arguments_.bundle, state, problems, replay_command(state.id)));
    say(fmt::format("  bundle: {}/{}\n", arguments_.bundle, state.id.text()));
  }
  std::fflush(stdout);
  return false;
}

void CrashTest::show_progress(bool last) {
  if (::isatty(STDERR_FILENO) != 1) return;
  const uint64_t now_ns = clock_.monotonic_ns();
  if (!last && now_ns - shown_ns_ < kProgressIntervalNs) return;
  shown_ns_ = now_ns;
  const uint64_t wanted = std::min(arguments_.images, images_.candidates());
  const double seconds = static_cast<double>(now_ns - began_ns_) / 1e9;
  fmt::print(stderr, "\r{}/{} states, {:.0f}/s, {} violations{}", checked_, wanted,
             static_cast<double>(checked_) / std::max(seconds, 0.001), violations_,
             last ? "\n" : "");
}

int CrashTest::run_all() {
  while (!interrupted) {
    const std::optional<CrashState> state = images_.next();
    if (!state) break;
    const Result<bool> result = passes(*state);
    if (!result.ok()) return fail(program_, result.error(), kExitTrouble);
    show_progress(false);
  }
  show_progress(true);
  const double seconds = static_cast<double>(clock_.monotonic_ns() - began_ns_) / 1e9;
  say(fmt::format(
      "{} moments with {} crash images; {} enumerated, {} distinct, {} checked in {:.1f} s, "
      "{} violations\n",
      images_.moments(), images_.candidates(), checked_ + images_.repeated(), checked_, checked_,
      seconds, violations_));
  std::fflush(stdout);
  if (interrupted) return fail(program_, "interrupted", kExitTrouble);
  return violations_ == 0 ? 0 : kExitViolations;
}

int CrashTest::run_one(const CrashStateId& id) {
  const Result<CrashState> state = images_.state(id);
  if (!state.ok()) return fail(program_, state.error(), kExitTrouble);
  say(state->describe());
  const Result<bool> result = passes(*state);
  if (!result.ok()) return fail(program_, result.error(), kExitTrouble);
  if (*result) say(fmt::format("state {}: passes\n", id.text()));
  return *result ? 0 : kExitViolations;
}

// Numbers that are none, or negative, are not taken for others.
Status take_numbers(const std::string& images, const std::string& seed, Arguments& arguments) {
  if (!images.empty()) arguments.images = FS_TRY(parse_number(images));
  if (!seed.empty()) arguments.seed = FS_TRY(parse_number(seed));
  if (arguments.images > 0) return {};
  return Error(ErrorCode::invalid_argument, "--images: at least one");
}

int crashtest(const char* program, const Arguments& arguments) {
  const Result<IoLog> log = load(arguments.log);
  if (!log.ok()) return fail(program, log.error(), kExitTrouble);
  catch_interruptions();
  const ScratchDirectory scratch;
  if (scratch.path().empty()) {
    return fail(program, "cannot make a temporary directory", kExitTrouble);
  }
  CrashTest test(arguments, program, *log, scratch.path());
  if (arguments.state.empty()) return test.run_all();
  const Result<CrashStateId> id = CrashStateId::parse(arguments.state);
  if (!id.ok()) return fail(program, id.error(), kExitTrouble);
  return test.run_one(*id);
}

}  // namespace

int crashtest_main(int argc, char** argv) {
  CLI::App app(
      "Tries what a crash may have left of the device recorded by \"mount -o iolog=IOLOG\": every "
      "state must mount, check clean, and satisfy CMD.");
  Arguments arguments;
  app.add_option("IOLOG", arguments.log, "the recording")->required();
  std::string images, seed;
  app.add_option("--images", images, "how many states at most (1000)");
  app.add_option("--seed", seed, "which ones (1)");
  app.add_option("--bundle", arguments.bundle, "directory for what can be told of failing states");
  app.add_option("--check", arguments.command, "run CMD DIR, with the state mounted on DIR")
      ->type_name("CMD");
  app.add_option("--state", arguments.state, "check this state only, and describe it");
  if (const auto status = parse_arguments(app, argc, argv, kExitTrouble)) return *status;
  if (const Status status = take_numbers(images, seed, arguments); !status.ok()) {
    return fail(argv[0], status.error(), kExitTrouble);
  }
  return crashtest(argv[0], arguments);
}

}  // namespace stablefs
