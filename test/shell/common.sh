# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Helpers of the numbered tests. A test sources this file first, prints what NNN.out holds, and
# puts everything that varies into $seqres.full. Names follow xfstests.
#
#   TEST_DIR  own empty directory    MNT     mount point, not yet mounted
#   SOURCE    set by _mkfs           IMAGE   the image file, also below a loop device
# What a test leaves mounted or running, scripts/check takes down.

if [ -z "${TEST_DIR:-}" ]; then
  exec "$(dirname "${BASH_SOURCE[0]}")/../../scripts/check" "$(basename "$0")"
fi
set -uo pipefail
seq=$SEQ
seqres=$SEQRES
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$here/../.." && pwd)
MNT=$TEST_DIR/mnt
IMAGE=$TEST_DIR/image
SOURCE=''
mkdir -p "$MNT"
cd "$TEST_DIR" || exit 1
: > "$seqres.full"
echo "QA output created by $seq"

log() { printf '%s\n' "$*" >> "$seqres.full"; }

_notrun() {
  printf '%s\n' "$*" > "$seqres.notrun"
  exit 0
}
_fail() {
  printf '%s\n' "$*"
  exit 1
}

_require_root() { [ "$(id -u)" -eq 0 ] || _notrun 'needs root'; }
_require_fuse() {
  [ -c /dev/fuse ] || _notrun 'this kernel or container has no /dev/fuse'
  [ "$(id -u)" -eq 0 ] || command -v fusermount3 > /dev/null || _notrun 'needs root or fusermount3'
}
_require_loop() {
  _require_root
  losetup -f > /dev/null 2>&1 || _notrun 'no free loop device'
}
_require_syncfs() {
  [ "$(id -u)" -eq 0 ] || _notrun "the kernel does not tell an ordinary user's mount of syncfs(2)"
}
_require_command() { command -v "$1" > /dev/null || _notrun "needs $1"; }
# _require_space BYTES in the temporary directory
_require_space() {
  local free
  free=$(df --output=avail -B1 "$TEST_DIR" | tail -n 1)
  [ "$free" -ge "$1" ] || _notrun "needs $(($1 / 1048576)) MiB of free space in $TEST_DIR"
}
# _level QUICK FULL [SOAK]: the amount of work the run is meant to do
_level() {
  case $TEST_LEVEL in
    quick) echo "$1" ;;
    full) echo "$2" ;;
    *) echo "${3:-$2}" ;;
  esac
}

stablefs() { "$STABLEFS" "$@"; }

# Runs a command silently; its output goes to the full log, a failure to the golden output too.
_quietly() {
  local status
  log "\$ $*"
  "$@" >> "$seqres.full" 2>&1
  status=$?
  [ "$status" -eq 0 ] || echo "failed with exit $status: ${*//$TEST_DIR/.}"
  return "$status"
}

# A command that must refuse: non-zero, not by a signal, exactly one line on stderr.
_expect_refusal() {
  local what=$1 status
  shift
  timeout -k 5 60 "$@" > "$TEST_DIR/refusal.out" 2> "$TEST_DIR/refusal.err" < /dev/null
  status=$?
  log "refusal: $* -> $status: $(cat "$TEST_DIR/refusal.err")"
  if [ "$status" -eq 0 ]; then
    echo "$what: accepted"
  elif [ "$status" -ge 124 ]; then
    echo "$what: crashed or hung, exit $status"
  elif [ "$(grep -c . "$TEST_DIR/refusal.err")" -ne 1 ]; then
    echo "$what: refused, but not with one line:"
    sed "s|$TEST_DIR|.|g" "$TEST_DIR/refusal.err"
  else
    echo "$what: refused"
  fi
}

_loop_attach() {
  local device
  device=$(losetup --show -f "$@") || _fail "losetup $*"
  log "loop device $device"
  echo "$device"
}
_mkfs_image() {
  local size=$1
  shift
  SOURCE=$IMAGE
  rm -f "$IMAGE"
  _quietly stablefs mkfs --size "$size" "$@" "$IMAGE" || exit 1
}
_mkfs_loop() {
  local size=$1
  shift
  _require_loop
  rm -f "$IMAGE"
  truncate -s "$size" "$IMAGE"
  SOURCE=$(_loop_attach "$IMAGE") || exit 1
  _quietly stablefs mkfs "$@" "$SOURCE" || exit 1
}
# On an image or a loop device, as scripts/check -s says.
_mkfs() {
  _require_fuse
  if [ "$TEST_SOURCE" = loop ]; then _mkfs_loop "$@"; else _mkfs_image "$@"; fi
}

# _mount [OPTIONS]: mounts SOURCE on MNT with the run's options and these, which the test is about.
_mount() {
  local options=${1:-}
  options=${MOUNT_OPTIONS:-}${options:+${MOUNT_OPTIONS:+,}}${options}
  if [ -n "$options" ]; then
    _quietly stablefs mount "$SOURCE" "$MNT" -o "$options" || exit 1
  else
    _quietly stablefs mount "$SOURCE" "$MNT" || exit 1
  fi
}
_umount() { _quietly stablefs umount "$MNT" || exit 1; }
_remount() {
  _umount
  _mount "$@"
}
_mounted() { grep -qF " ${1:-$MNT} " /proc/self/mountinfo; }

# _fsck [SOURCE]: everything must be clean, every data block too.
_fsck() {
  local status
  log "\$ fsck -n --data ${1:-$SOURCE}"
  stablefs fsck -n --data "${1:-$SOURCE}" > "$TEST_DIR/fsck.out" 2>&1
  status=$?
  cat "$TEST_DIR/fsck.out" >> "$seqres.full"
  if [ "$status" -ne 0 ]; then
    echo "fsck exits $status:"
    head -n 20 "$TEST_DIR/fsck.out"
  fi
  return "$status"
}

# The process that serves this test's mount.
_daemon_pid() {
  local process
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe" 2> /dev/null)" = "$STABLEFS" ] || continue
    tr '\0' '\n' < "$process/cmdline" 2> /dev/null | grep -qxF "${1:-$MNT}" || continue
    echo "${process#/proc/}"
    return
  done
}
# Kills the daemon as a crash would, and takes the dead mount away.
_kill_daemon() {
  local pid
  pid=$(_daemon_pid)
  [ -n "$pid" ] || _fail 'no daemon found to kill'
  kill -9 "$pid"
  while [ -e "/proc/$pid" ] && ! grep -q '^State:.*Z' "/proc/$pid/status" 2> /dev/null; do
    sleep 0.02
  done
  umount "$MNT" 2>> "$seqres.full" || umount -l "$MNT" 2>> "$seqres.full" ||
    fusermount3 -u -z "$MNT"
}

_used_bytes() { df --output=used -B1 "$MNT" | tail -n 1 | tr -d ' '; }
_free_bytes() { df --output=avail -B1 "$MNT" | tail -n 1 | tr -d ' '; }
_size_bytes() { df --output=size -B1 "$MNT" | tail -n 1 | tr -d ' '; }
# Free space is back: to the byte after mounting again; until then what no checkpoint has dropped
# yet may hold 1 % (of a tiny filesystem 4 MiB); reclaiming gets ten seconds.
_expect_free() {
  local before=$1 free=0 slack=$(($1 / 100))
  [ "$slack" -ge $((4 << 20)) ] || slack=$((4 << 20))
  for _ in $(seq 50); do
    sync -f "$MNT"
    free=$(_free_bytes)
    [ "$free" -ge $((before - slack)) ] && break
    sleep 0.2
  done
  log "free before $before, after $free"
  [ "$free" -ge $((before - slack)) ] || echo "free space: $before before, $free after"
}
_expect_free_exactly() {
  _expect_free "$1"
  _remount
  [ "$(_free_bytes)" = "$1" ] || echo "free space: $1 before, $(_free_bytes) after mounting again"
}

# A line per file, directory and link with all that cp -a must keep, and contents by checksum.
_manifest() {
  (
    cd "$1" || exit 1
    find . ! -type f -printf '%P %y %m %U:%G %n %l\n' | sed -E 's/^(.* d [0-9]+ [^ ]+) [0-9]+ /\1 /'
    find . -mindepth 1 -printf 'time %P %T@\n'
    find . -type f -printf '%P %y %m %U:%G %n %s\n'
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum
  ) | sort
}
_expect_equal_trees() {
  _manifest "$1" > "$TEST_DIR/manifest.1"
  _manifest "$2" > "$TEST_DIR/manifest.2"
  if cmp -s "$TEST_DIR/manifest.1" "$TEST_DIR/manifest.2"; then
    echo "$3: equal"
  else
    echo "$3: different"
    diff "$TEST_DIR/manifest.1" "$TEST_DIR/manifest.2" | head -n 10
  fi
  rm -f "$TEST_DIR/manifest.1" "$TEST_DIR/manifest.2"
}

_python() { python3 "$here/src/$1.py" "${@:2}"; }
