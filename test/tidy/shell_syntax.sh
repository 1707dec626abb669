#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Every shell script parses, and shellcheck finds no error in it where shellcheck is installed.
cd "$1" || exit 2
mapfile -t scripts < <(grep -rlE '^#! ?/bin/bash' scripts test .ci | sort)
[ "${#scripts[@]}" -gt 3 ] || { echo "only ${#scripts[@]} scripts found"; exit 1; }
result=0
for script in "${scripts[@]}"; do
  bash -n "$script" || result=1
done
if command -v shellcheck > /dev/null; then
  # SC2154, SC2034: names that common.sh sets or reads.
  shellcheck --severity=warning --shell=bash --exclude=SC2154,SC2034 "${scripts[@]}" || result=1
fi
exit "$result"
