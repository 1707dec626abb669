// SPDX-License-Identifier: GPL-2.0-or-later
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>

#include "tools/mount_table.h"

namespace stablefs {
namespace {

TEST_CASE("mountinfo: devices, escaped names, optional fields") {
  const auto entries = parse_mount_table(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
      "60 22 7:3 / /mnt/a\\040b\\134c rw,nosuid shared:9 master:2 - fuseblk.stablefs /dev/loop3 "
      "rw\n"
      "61 22 0:45 /part /home/u rw - fuse.stablefs /home/u/a\\054b.img rw,user_id=5\n");
  REQUIRE(entries.size() == 3);
  CHECK_FALSE(entries[0].stablefs());
  CHECK(entries[1].stablefs());
  CHECK(entries[1].block_device());
  CHECK(entries[1].device == makedev(7, 3));
  CHECK(entries[1].directory == "/mnt/a b\\c");
  CHECK(entries[2].root == "/part");
  CHECK(entries[2].source == "/home/u/a,b.img");
  CHECK_FALSE(entries[2].block_device());
}

TEST_CASE("mountinfo: lines that are not understood are left out") {
  CHECK(parse_mount_table("").empty());
  CHECK(
      parse_mount_table("\n\nnonsense\n1 2 x:y / /a rw - t s o\n1 2 3:4 / /a rw t s o\n").empty());
}

}  // namespace
}  // namespace stablefs
