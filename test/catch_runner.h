// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

// Runs the test cases that the arguments select; the process's exit status.
int run_catch(int argc, char** argv);
