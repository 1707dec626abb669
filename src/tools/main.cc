// SPDX-License-Identifier: GPL-2.0-or-later
// One binary, many programs: chosen by the name it is called with (mkfs.stablefs, and
// mkfs.fuse.stablefs, mkfs.fuseblk.stablefs as mount(8) and fsck(8) call it by the type they see)
// or by the first argument.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "tools/mains.h"

namespace stablefs {
namespace {

struct Program {
  std::string_view name;
  int (*main)(int argc, char** argv);
  const char* summary;
};

constexpr Program kPrograms[] = {
    {"mkfs", mkfs_main, "make a filesystem on a block device or in an image file"},
    {"mount", mount_main, "mount a filesystem"},
    {"umount", umount_main, "unmount, and wait until everything is on the device"},
#ifdef STABLEFS_HAVE_FSCK
    {"fsck", fsck_main, "check a filesystem that is not mounted"},
#endif
#ifdef STABLEFS_HAVE_DUMP
    {"dump", dump_main, "print on-disk structures as text"},
#endif
    {"crashtest", crashtest_main, "try what a crash may have left of a recorded filesystem"},
    {"stats", stats_main, "print the counters of a mounted filesystem"},
    {"abort", abort_main, "fail everything that waits for a device that does not answer"},
    {"trim", trim_main, "tell the device which blocks are free"},
    {"tune", tune_main, "change how a mounted filesystem works"},
    {"info", info_main, "print what a filesystem is and how it is mounted"},
    {"damage", damage_main, "list files with blocks that cannot be had"},
    {"tags", tags_main, "print guards and tags of a file"},
};

const Program* find_program(std::string_view name) {
  for (const Program& program : kPrograms) {
    if (program.name == name) return &program;
  }
  return nullptr;
}

// "mkfs" for /sbin/mkfs.fuseblk.stablefs; empty for stablefs itself.
std::string_view called_program(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  for (const std::string_view suffix : {".fuseblk.stablefs", ".fuse.stablefs", ".stablefs"}) {
    if (name.ends_with(suffix)) return name.substr(0, name.size() - suffix.size());
  }
  return {};
}

void print_help(FILE* out) {
  std::fputs(
      "Usage: stablefs COMMAND [ARGUMENTS]\n"
      "A checksumming, crash-safe filesystem in user space.\n\n"
      "Commands (each takes --help):\n",
      out);
  for (const Program& program : kPrograms) {
    std::fprintf(out, "  %-10s %s\n", program.name.data(), program.summary);
  }
  std::fputs("\n  --help      print this\n  --version   print the version\n", out);
}

int run(const Program& program, int argc, char** argv) {
  // Helpers of mount(8) and its kin are installed under names of their own.
  const bool helper = program.name == "mkfs" || program.name == "mount" || program.name == "fsck";
  std::string name =
      helper ? std::string(program.name) + ".stablefs" : "stablefs " + std::string(program.name);
  argv[0] = name.data();
  // Nothing of ours throws; this is for the libraries.
  try {
    return program.main(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), exception.what());
    return program.name == "fsck" ? 8 : 1;
  }
}

int multi_call(int argc, char** argv) {
  if (argc < 1) return 1;
  if (const std::string_view called = called_program(argv[0]); !called.empty()) {
    if (const Program* program = find_program(called)) return run(*program, argc, argv);
  }
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "--version" || command == "-V") {
    std::puts("stablefs " STABLEFS_VERSION);
    return 0;
  }
  if (command == "--help" || command == "-h" || command == "help") {
    print_help(stdout);
    return 0;
  }
  if (const Program* program = find_program(command)) return run(*program, argc - 1, argv + 1);
  if (command.empty()) {
    print_help(stderr);
  } else {
    std::fprintf(stderr, "stablefs: no command '%s' (try stablefs --help)\n", argv[1]);
  }
  return 1;
}

}  // namespace
}  // namespace stablefs

int main(int argc, char** argv) {
  return stablefs::multi_call(argc, argv);
}
