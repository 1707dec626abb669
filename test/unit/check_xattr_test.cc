// SPDX-License-Identifier: GPL-2.0-or-later
// Damage of extended attributes and access control lists: one damage, exactly that finding.
#include <catch2/catch.hpp>

#include "check_fixture.h"
#include "format/acl.h"

using namespace stablefs;
using Fixture = CheckFixture;

namespace {

const std::vector<std::byte> kLongValue(5000, std::byte{'v'});
constexpr uint32_t kNobody = ~0u;

Acl list_of_mode_644() {
  return {{AclTag::user_object, 6, kNobody},
          {AclTag::user, 7, 1000},
          {AclTag::group_object, 6, kNobody},
          {AclTag::mask, 4, kNobody},
          {AclTag::other, 4, kNobody}};
}

}  // namespace

TEST_CASE("sound extended attributes and lists are no problem", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, Fixture::kFile, "user.long", kLongValue);
    fixture.put_xattr(t, Fixture::kFile, "user.empty", {});
    fixture.put_xattr(t, Fixture::kFile, "security.capability",
                      std::vector<std::byte>(kMaxXattrValueBytes));
    fixture.put_xattr(t, Fixture::kFile, std::string(kAccessAclName),
                      acl_value(list_of_mode_644()));
    fixture.put_xattr(t, Fixture::kDirectory, std::string(kDefaultAclName),
                      acl_value(list_of_mode_644()));
    fixture.put_xattr(t, Fixture::kSymlink, "trusted.x", kLongValue);
    fixture.put_xattr(t, Fixture::kDevice, "security.x", kLongValue);
  });
  const auto found = fixture.check();
  INFO(fixture.texts());
  CHECK(found.empty());
}

TEST_CASE("check: xattr_incomplete when any chunk is missing or has another length", "[check]") {
  for (uint32_t chunk = 0; chunk < 6; ++chunk) {
    for (const bool missing : {true, false}) {
      if (chunk == 0 && !missing) continue;  // not valid by itself
      Fixture fixture;
      const Key key = fixture.xattr_key(Fixture::kFile, "user.long", chunk);
      fixture.commit([&](Transaction& t) {
        fixture.put_xattr(t, Fixture::kFile, "user.long", kLongValue);
        fixture.put_xattr(t, Fixture::kFile, "user.other", kLongValue);
      });
      fixture.commit([&](Transaction& t) {
        if (missing) {
          t.erase(key);
        } else {
          t.put(key, std::vector<std::byte>(chunk == 5 ? 11 : 999));
        }
      });
      INFO("chunk " << chunk);
      fixture.expect_only(ProblemId::xattr_incomplete);
    }
  }
}

TEST_CASE("check: xattr_incomplete when there is a chunk too many", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, Fixture::kFile, "user.long", kLongValue);
    t.put(fixture.xattr_key(Fixture::kFile, "user.long", 6), std::vector<std::byte>(10));
  });
  fixture.expect_only(ProblemId::xattr_incomplete);
}

TEST_CASE("check: xattr_hash", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    t.put(fixture.xattr_key(Fixture::kFile, "user.another"), Fixture::whole_xattr("user.x", {}));
  });
  fixture.expect_only(ProblemId::xattr_hash);
}

TEST_CASE("check: xattr_duplicate", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, Fixture::kFile, "user.x", kLongValue, 0);
    fixture.put_xattr(t, Fixture::kFile, "user.x", {}, 3);
  });
  fixture.expect_only(ProblemId::xattr_duplicate);
}

TEST_CASE("check: xattr_unexpected", "[check]") {
  struct Case {
    uint64_t ino;
    std::string name;
  };
  const Case bad = GENERATE(Case{Fixture::kSymlink, "user.x"}, Case{Fixture::kDevice, "user.x"},
                            Case{Fixture::kFile, std::string(kDefaultAclName)},
                            Case{Fixture::kSymlink, std::string(kDefaultAclName)});
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, bad.ino, bad.name, acl_value(list_of_mode_644()));
  });
  fixture.expect_only(ProblemId::xattr_unexpected);
}

TEST_CASE("check: acl_invalid", "[check]") {
  Fixture fixture;
  Acl acl = list_of_mode_644();
  acl.pop_back();
  const bool of_directory = GENERATE(false, true);
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, of_directory ? Fixture::kDirectory : Fixture::kFile,
                      std::string(of_directory ? kDefaultAclName : kAccessAclName), acl_value(acl));
  });
  fixture.expect_only(ProblemId::acl_invalid);
}

TEST_CASE("check: acl_mode", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) {
    fixture.put_xattr(t, Fixture::kFile, std::string(kAccessAclName),
                      acl_value(list_of_mode_644()));
  });
  fixture.change_inode(Fixture::kFile, [](DiskInode& inode) { inode.mode = S_IFREG | 0664; });
  fixture.expect_only(ProblemId::acl_mode);
}

TEST_CASE("check: extended attributes of an inode that does not exist", "[check]") {
  Fixture fixture;
  fixture.commit([&](Transaction& t) { fixture.put_xattr(t, 80, "user.long", kLongValue); });
  fixture.expect_only(ProblemId::item_without_inode);
}
