# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Shared by scripts/quickstart and scripts/test: installing what is missing, building.
# Sourced; sets ROOT (the source tree) and BUILD (the build directory, STABLEFS_BUILD overrides).

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${STABLEFS_BUILD:-$ROOT/build}
STABLEFS_PROGRAM=src/tools/stablefs  # below a build directory

PACKAGES_BUILD=(g++ meson ninja-build pkg-config python3 libfmt-dev liburing-dev libisal-dev
  libfuse3-dev libblkid-dev nlohmann-json3-dev libcli11-dev catch2 fuse3 mount)
PACKAGES_TEST=(git e2fsprogs diffutils util-linux acl attr fio)
PACKAGES_SANITIZERS=(clang libclang-rt-dev)

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints the packages among the arguments that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null)" = installed ] ||
      printf '%s\n' "$package"
  done
}

# Installs what is missing, as root with apt-get; everybody else is told what to install.
install_packages() {
  local missing
  if ! command -v dpkg-query > /dev/null; then
    echo "This is no Debian system; these packages, or what matches them, are needed: $*"
    return 0
  fi
  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    die "missing packages; run as root: apt-get install ${missing[*]}"
  fi
  echo "Installing: ${missing[*]}"
  local log
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get -q update && apt-get -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 install "${missing[@]}"; } < /dev/null > "$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install: ${missing[*]}"
  fi
  rm -f "$log"
}

# build_tree DIRECTORY [MESON OPTIONS]: configures when needed, then compiles $BUILD_TARGETS, or
# everything.
build_tree() {
  local directory=$1
  shift
  if [ -e "$directory/build.ninja" ]; then
    if [ $# -gt 0 ]; then meson configure "$directory" "$@" || return; fi
  else
    meson setup "$directory" "$ROOT" "$@" || return
  fi
  # shellcheck disable=SC2086
  ninja -C "$directory" -j "${STABLEFS_JOBS:-$(nproc)}" ${BUILD_TARGETS:-}
}
