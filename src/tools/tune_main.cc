// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs tune DIR NAME=VALUE...: changes how a mounted filesystem works, until it is unmounted.
#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"

namespace stablefs {

int tune_main(int argc, char** argv) {
  CLI::App app(
      "Changes how the filesystem mounted at DIR works, until it is unmounted.\n"
      "  stable=auto|wait|copy               what a write does to a page that is being written\n"
      "  atime=relatime|noatime|strictatime  when access times are changed");
  std::string directory;
  std::vector<std::string> settings;
  app.add_option("DIR", directory, "where it is mounted")->required();
  app.add_option("SETTING", settings, "NAME=VALUE")->required();
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  for (const std::string& setting : settings) {
    const Status status = write_control(directory, kControlTune, setting);
    if (!status.ok()) return fail(argv[0], status.error());
  }
  return 0;
}

}  // namespace stablefs
