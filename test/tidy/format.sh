#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every C++ file is as clang-format 14 leaves it; other versions lay code out differently, so
# without that one the test is skipped.
cd "$1" || exit 2
formatter=$(command -v clang-format-14 || command -v clang-format) || exit 77
"$formatter" --version | grep -q 'version 14\.' || exit 77
find src include test -name '*.cc' -o -name '*.h' -o -name '*.c' | sort |
  xargs -r "$formatter" --dry-run -Werror --ferror-limit=1
