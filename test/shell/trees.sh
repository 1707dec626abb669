# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Copying big trees of the system: equal while mounted and after mounting again, all blocks
# verified, and the space given back in the end.

# Everything but directories, a line each. Links are counted inside the tree: what is linked from
# elsewhere has fewer in the copy.
_entries() {
  (cd "$1" && find . ! -type d -printf '%i %P %y %m %U:%G %s %T@ %l\n') |
    awk '{ inode[NR] = $1; ++links[$1]; sub(/^[0-9]+ /, ""); line[NR] = $0 }
         END { for (i = 1; i <= NR; ++i) print line[i], "links", links[inode[i]] }' | sort
}
# Directories' own sizes and the space they take belong to the filesystem.
_directories() { (cd "$1" && find . -type d -printf '%P %m %U:%G %n %T@\n') | sort; }

# _compare_tree TREE WHEN: with its copy on the mount
_compare_tree() {
  local copy=$MNT/${1##*/}
  diff -r --no-dereference "$1" "$copy" > "$TEST_DIR/diff" 2>&1 ||
    { echo "$1 differs $2"; head -n 5 "$TEST_DIR/diff"; }
  diff <(_entries "$1") <(_entries "$copy") > "$TEST_DIR/diff" ||
    { echo "$1: attributes differ $2"; head -n 5 "$TEST_DIR/diff"; }
  diff <(_directories "$1") <(_directories "$copy") > "$TEST_DIR/diff" ||
    { echo "$1: directories differ $2"; head -n 5 "$TEST_DIR/diff"; }
}

# _copy_trees TREE...: on a fresh filesystem
_copy_trees() {
  local empty tree
  _mount
  empty=$(_free_bytes)
  _quietly cp -a "$@" "$MNT/"
  for tree in "$@"; do _compare_tree "$tree" 'while mounted'; done
  _umount
  _fsck
  _mount
  for tree in "$@"; do _compare_tree "$tree" 'after mounting again'; done
  _quietly rm -rf "$MNT"/*
  _expect_free_exactly "$empty"
  _umount
  _fsck
}
