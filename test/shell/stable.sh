# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Helpers of the tests about stable pages: the stress program and the counters it is judged by.

STRESS=$(dirname "$STABLEFS")/../../test/stable/stable_stress

_require_stress() {
  _require_root
  _require_fuse
  [ -x "$STRESS" ] || _notrun 'the stress program is not built'
}

# _stress PROFILE SIZE CACHE SECONDS: on $MNT/file; what must be in it is in ./expected.
_stress() {
  local arguments=(--profile "$1" --size "$(numfmt --from=iec "$2")" --seconds "$4"
    --seed "$SEED" --expected "$TEST_DIR/expected")
  # With cache=daemon a mapped page may be older than a write(2) to it: a limit of the kernel.
  [ "$3" = daemon ] || [ "$1" != C ] || arguments+=(--share-pages)
  log "\$ stress ${arguments[*]}"
  timeout -k 5 120 "$STRESS" "$MNT/file" "${arguments[@]}" >> "$seqres.full" 2>&1
}

_stat() { stablefs stats "$MNT" | awk -v name="$1" '$1 == name { print $2 }'; }
# Writes to what was in flight; direct ones wait for each other by range.
_rewrites() {
  echo $(($(_stat stable.swaps) + $(_stat stable.copies) + $(_stat stable.waits) +
    $(_stat direct.waits)))
}
