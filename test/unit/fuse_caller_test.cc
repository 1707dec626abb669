// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "fuse/caller.h"

using namespace stablefs;

namespace {

constexpr std::string_view kStatus =
    "Name:\tCapEff: Groups:\n"
    "Groups:\t4 24 1000 \n"
    "CapPrm:\t000001ffffffffff\n"
    "CapEff:\t0000000000000008\n";

Caller caller(uint32_t pid, uid_t uid, gid_t gid) {
  fuse_in_header header{};
  header.pid = pid;
  header.uid = uid;
  header.gid = gid;
  return Caller(header);
}

Attributes file(uint32_t mode) {
  Attributes attributes;
  attributes.mode = mode;
  attributes.gid = 77;
  return attributes;
}

}  // namespace

TEST_CASE("groups and capabilities are found in a status file", "[fuse]") {
  CHECK(status_has_group(kStatus, 4));
  CHECK(status_has_group(kStatus, 1000));
  CHECK_FALSE(status_has_group(kStatus, 100));
  CHECK_FALSE(status_has_group(kStatus, 0));
  CHECK(status_has_capability(kStatus, CAP_FOWNER));
  CHECK_FALSE(status_has_capability(kStatus, CAP_FSETID));
  for (const std::string_view odd :
       {"", "Groups:", "Groups:\t\nCapEff:\t", "CapEff:\tx\nGroups: x"}) {
    CHECK_FALSE(status_has_group(odd, 0));
    CHECK_FALSE(status_has_capability(odd, 0));
  }
}

TEST_CASE("who is not found has no groups and no capabilities", "[fuse]") {
  constexpr uint32_t kNobody = 0;
  CHECK(caller(kNobody, 5, 6).may_act_for(5));
  CHECK_FALSE(caller(kNobody, 0, 0).may_act_for(5));
  CHECK(caller(kNobody, 5, 77).may_keep_sgid(77));
  CHECK_FALSE(caller(kNobody, 5, 6).may_keep_sgid(77));
}

TEST_CASE("set-group-ID without group execution is for members to keep", "[fuse]") {
  const Caller stranger = caller(0, 5, 6), member = caller(0, 5, 77);
  CHECK(loses_any_sgid(stranger, file(S_IFREG | 02644)));
  CHECK_FALSE(loses_any_sgid(member, file(S_IFREG | 02644)));
  CHECK_FALSE(loses_any_sgid(stranger, file(S_IFREG | 02654)));  // goes anyway
  CHECK_FALSE(loses_any_sgid(stranger, file(S_IFREG | 04644)));
  CHECK(has_suid_or_sgid(file(S_IFREG | 02644)));
  CHECK(has_suid_or_sgid(file(S_IFREG | 04644)));
  CHECK_FALSE(has_suid_or_sgid(file(S_IFREG | 01777)));
  CHECK_FALSE(has_suid_or_sgid(file(S_IFDIR | 06777)));
}
