// SPDX-License-Identifier: GPL-2.0-or-later
// stablefs stats DIR [--json]: the counters of the daemon that serves DIR.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "stablefs/control.h"
#include "tools/command_line.h"
#include "tools/control_client.h"
#include "tools/mains.h"

namespace stablefs {

int stats_main(int argc, char** argv) {
  CLI::App app("Prints the counters of the daemon that serves the filesystem mounted at DIR.");
  std::string directory;
  bool json = false;
  app.add_option("DIR", directory, "where it is mounted")->required();
  app.add_flag("--json", json, "one flat JSON object");
  if (const auto status = parse_arguments(app, argc, argv)) return *status;
  const Result<std::string> text = read_control(directory, kControlStats);
  if (!text.ok()) return fail(argv[0], text.error());
  if (json) {
    std::puts(text->c_str());
    return 0;
  }
  const auto counters = nlohmann::json::parse(*text, nullptr, false);
  if (!counters.is_object()) return fail(argv[0], "the daemon's answer is not valid");
  for (const auto& [name, value] : counters.items()) {
    fmt::print("{:<32} {}\n", name, value.dump());
  }
  return 0;
}

}  // namespace stablefs
