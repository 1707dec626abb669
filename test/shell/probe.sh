# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Helpers of the tests that are small Python programs.

# _probe [ARGUMENT...] < PROGRAM: runs it in the mounted directory, with src/probe.py at hand.
_probe() {
  local program
  program=$(cat)
  (cd "$MNT" && PYTHONPATH=$here/src python3 -c "from probe import *
$program" "$@")
}

# Unmounts, and everything must be clean.
_finish() {
  _umount
  _fsck
}
