// SPDX-License-Identifier: GPL-2.0-or-later
// Checking crash images in process: what a filesystem left is fine in each, and what breaks the
// rules is seen.
#include <catch2/catch.hpp>

#include "device/crash_images.h"
#include "device/memory_device.h"
#include "device/recording_device.h"
#include "fs/file_system.h"
#include "tools/crash_check.h"
#include "tools/crash_mount.h"

using namespace stablefs;

namespace {

constexpr uint64_t kBlocks = 8192;

MemoryImage formatted() {
  MemoryDevice device(kBlocks);
  FormatOptions options;
  options.hash_seed[0] = 7;
  REQUIRE(format_device(device, options).ok());
  return device.image();
}

// Some directories made and synced on a recorded device.
IoLog record_some_work(const MemoryImage& base) {
  SystemClock clock;
  NullLogger logger;
  MemoryDevice memory(base);
  MemoryIoLog sink;
  RecordingDevice device(memory, sink);
  FileSystemOptions options;
  options.clock = &clock;
  options.logger = &logger;
  auto fs = FileSystem::open(device, options);
  REQUIRE(fs.ok());
  for (const char* name : {"a", "b", "c"}) {
    NewFile file;
    file.mode = 0755;
    const auto made = (*fs)->make_directory(kRootIno, name, file);
    REQUIRE(made.ok());
    (*fs)->forget(made->ino, 1);
    REQUIRE((*fs)->sync_all().ok());
  }
  REQUIRE((*fs)->close().ok());
  return {kBlocks, sink.events()};
}

std::vector<std::string> problems_of(CrashCheck& check, const CrashState& state) {
  const auto problems = check.check(state);
  REQUIRE(problems.ok());
  return *problems;
}

// As if the device forgot a whole class of writes: everything but the superblocks.
CrashState without_nodes(const CrashState& state) {
  CrashState damaged = state;
  for (const auto& [lba, page] : state.image.changes()) {
    if (lba > 16) damaged.image.set_page(Lba(lba), nullptr);
  }
  return damaged;
}

}  // namespace

TEST_CASE("every crash image of a recorded filesystem recovers and checks clean") {
  const MemoryImage base = formatted();
  const IoLog log = record_some_work(base);
  CrashImages images(log, base, {150, 1, false});
  CrashCheck check("", "");
  uint64_t checked = 0;
  while (const auto state = images.next()) {
    CAPTURE(state->id.text());
    CHECK(problems_of(check, *state).empty());
    ++checked;
  }
  CHECK(checked >= 15);
}

TEST_CASE("a state that cannot be mounted, or is not clean, is told with its reason") {
  const MemoryImage base = formatted();
  const IoLog log = record_some_work(base);
  CrashCheck check("", "");
  // All that was written over the empty image: then without what superblocks refer to.
  const VolatileCache end = replay_io_log(log, log.events.size(), base);
  CrashState state{{}, ImageOverlay(base), 0, "", {}, {}, 0};
  end.current().for_each_populated({Lba(0), kBlocks}, [&](Lba lba) {
    if (end.current().page(lba) != base.page(lba)) {
      state.image.set_page(lba, end.current().page(lba));
    }
  });
  CHECK(problems_of(check, state).empty());
  const auto problems = problems_of(check, without_nodes(state));
  REQUIRE_FALSE(problems.empty());
  CHECK((problems[0].starts_with("mount: ") || problems[0].starts_with("fsck: ")));

  const MemoryImage nothing(kBlocks);
  const CrashState empty{{}, ImageOverlay(nothing), 0, "", {}, {}, 0};
  REQUIRE(problems_of(check, empty).size() == 1);
  CHECK(problems_of(check, empty)[0].starts_with("mount: not a stablefs filesystem"));
}

TEST_CASE("a command is run by the shell with the directory behind it, and its end is told") {
  const auto run = [](const std::string& command) {
    const auto outcome = run_command(command, "a 'b'", {{"SOME_MARK", "x y"}});
    REQUIRE(outcome.ok());
    return std::pair(outcome->status, outcome->output);
  };
  CHECK(run("echo") == std::pair(0, std::string("a 'b'\n")));
  CHECK(run("echo \"$SOME_MARK\"; exit 3; echo") == std::pair(3, std::string("x y\n")));
  CHECK(run("echo out; echo err >&2; true") == std::pair(0, std::string("out\nerr\n")));
  CHECK(run("kill -9 $$; true").first == 128 + 9);
  CHECK(run("./no-such-command").first == 127);
  // Only the last part of much output.
  const auto [status, output] = run("seq 100000; echo last; true");
  CHECK(status == 0);
  CHECK(output.size() == 16 << 10);
  CHECK(output.ends_with("\nlast\n"));
}
