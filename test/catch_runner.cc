// SPDX-License-Identifier: GPL-2.0-or-later
// Catch2's implementation, compiled once for all test programs.
#define CATCH_CONFIG_RUNNER
#include "catch_runner.h"

#include <catch2/catch.hpp>

int run_catch(int argc, char** argv) {
  return Catch::Session().run(argc, argv);
}
