// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>
#include <functional>

#include "format/acl.h"

using namespace stablefs;

namespace {

constexpr uint32_t kNobody = ~0u;

Acl extended_acl() {
  return {{AclTag::user_object, 7, kNobody},  {AclTag::user, 6, 1000}, {AclTag::user, 1, 7},
          {AclTag::group_object, 5, kNobody}, {AclTag::group, 7, 100}, {AclTag::mask, 6, kNobody},
          {AclTag::other, 4, kNobody}};
}
Acl minimal_acl() {
  return {{AclTag::user_object, 6, kNobody},
          {AclTag::group_object, 4, kNobody},
          {AclTag::other, 0, kNobody}};
}

}  // namespace

TEST_CASE("access control lists come back as they were", "[format]") {
  for (const Acl& acl : {extended_acl(), minimal_acl()}) {
    const auto value = acl_value(acl);
    CHECK(value.size() == 4 + 8 * acl.size());
    const auto parsed = parse_acl(value);
    REQUIRE(parsed.ok());
    CHECK(*parsed == acl);
  }
  Acl mask_only = minimal_acl();
  mask_only.insert(mask_only.begin() + 2, {AclTag::mask, 7, kNobody});
  CHECK(parse_acl(acl_value(mask_only)).ok());
}

TEST_CASE("an access control list with one thing wrong is refused", "[format]") {
  struct Damage {
    const char* name;
    std::function<void(Acl&)> apply;
  };
  const Damage damages[] = {
      {"permissions", [](Acl& a) { a[1].permissions = 8; }},
      {"tag", [](Acl& a) { a[1].tag = static_cast<AclTag>(3); }},
      {"id", [](Acl& a) { a[1].id = kNobody; }},
      {"order", [](Acl& a) { std::swap(a[0], a[1]); }},
      {"no owner", [](Acl& a) { a.erase(a.begin()); }},
      {"two owners", [](Acl& a) { a.insert(a.begin(), a[0]); }},
      {"no group", [](Acl& a) { a.erase(a.begin() + 3); }},
      {"no mask", [](Acl& a) { a.erase(a.begin() + 5); }},
      {"two masks", [](Acl& a) { a.insert(a.begin() + 5, a[5]); }},
      {"no others", [](Acl& a) { a.pop_back(); }},
      {"nothing", [](Acl& a) { a.clear(); }},
  };
  for (const Damage& damage : damages) {
    INFO(damage.name);
    Acl acl = extended_acl();
    damage.apply(acl);
    const auto parsed = parse_acl(acl_value(acl));
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code() == ErrorCode::acl_invalid);
  }
  auto value = acl_value(extended_acl());
  value.pop_back();
  CHECK_FALSE(parse_acl(value).ok());
  value = acl_value(extended_acl());
  value[0] = std::byte{1};
  CHECK_FALSE(parse_acl(value).ok());
  CHECK_FALSE(parse_acl(std::span(value).first(3)).ok());
}

TEST_CASE("lists and modes follow each other", "[format]") {
  Acl acl = extended_acl();
  CHECK(permissions_of_acl(acl) == 0764);
  CHECK_FALSE(is_minimal_acl(acl));
  CHECK(permissions_of_acl(minimal_acl()) == 0640);
  CHECK(is_minimal_acl(minimal_acl()));

  set_acl_permissions(acl, 04751);
  CHECK(acl[0].permissions == 7);
  CHECK(acl[3].permissions == 5);  // the group keeps its own: the mask stands for the bits
  CHECK(acl[5].permissions == 5);
  CHECK(acl[6].permissions == 1);
  Acl minimal = minimal_acl();
  set_acl_permissions(minimal, 0123);
  CHECK(permissions_of_acl(minimal) == 0123);
}

TEST_CASE("a default list and the mode asked for restrict each other", "[format]") {
  Acl acl = extended_acl();  // 0764
  CHECK(restrict_acl(acl, 0100666) == 0100664);
  CHECK(acl[0].permissions == 6);
  CHECK(acl[5].permissions == 6);
  CHECK(acl[6].permissions == 4);
  CHECK(acl[1].permissions == 6);
  acl = extended_acl();
  CHECK(restrict_acl(acl, 042700) == 042700);
  CHECK(acl[5].permissions == 0);
  CHECK(acl[3].permissions == 5);
  acl = minimal_acl();
  CHECK(restrict_acl(acl, 0777) == 0640);
}
