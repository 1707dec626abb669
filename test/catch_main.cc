// SPDX-License-Identifier: GPL-2.0-or-later
#include "catch_runner.h"

int main(int argc, char** argv) {
  return run_catch(argc, argv);
}
