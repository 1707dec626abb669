// SPDX-License-Identifier: GPL-2.0-or-later
// Access control lists, modes and what new inodes inherit.
#include <catch2/catch.hpp>

#include "format/acl.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

constexpr uint32_t kNobody = ~0u;
const std::string kAccess(kAccessAclName), kDefault(kDefaultAclName);

Acl list(uint16_t owner, uint16_t user, uint16_t group, uint16_t mask, uint16_t other) {
  return {{AclTag::user_object, owner, kNobody},
          {AclTag::user, user, 1000},
          {AclTag::group_object, group, kNobody},
          {AclTag::mask, mask, kNobody},
          {AclTag::other, other, kNobody}};
}
Acl minimal(uint16_t owner, uint16_t group, uint16_t other) {
  return {{AclTag::user_object, owner, kNobody},
          {AclTag::group_object, group, kNobody},
          {AclTag::other, other, kNobody}};
}

std::string set(TestFs& t, Ino ino, const std::string& name, const Acl& acl,
                bool clear_sgid = false) {
  return name_of(
      t->set_xattr(ino, name, acl_value(acl), {XattrMode::create_or_replace, clear_sgid}));
}
// Nothing: there is none.
Acl get(TestFs& t, Ino ino, const std::string& name) {
  const auto value = t->get_xattr(ino, name);
  if (!value.ok()) {
    REQUIRE(name_of(value) == "no_attribute");
    return {};
  }
  const auto acl = parse_acl(*value);
  REQUIRE(acl.ok());
  return *acl;
}
void change_mode(TestFs& t, Ino ino, uint32_t mode) {
  AttributeChange change;
  change.mode = mode;
  REQUIRE(name_of(t->set_attributes(ino, change)) == "ok");
}
NewFile with_umask(TestFs& t, uint32_t mode, uint32_t umask) {
  NewFile file = t.new_file(mode);
  file.umask = umask;
  return file;
}

}  // namespace

TEST_CASE("an access list sets the mode, and one that says no more is not kept", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(set(t, file, kAccess, list(7, 6, 5, 6, 1)) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 0761));
  CHECK(get(t, file, kAccess) == list(7, 6, 5, 6, 1));
  t.remount();
  REQUIRE(t.find(kRootIno, "f") == file);
  CHECK(t.attributes(file).mode == (S_IFREG | 0761));
  CHECK(get(t, file, kAccess) == list(7, 6, 5, 6, 1));

  CHECK(set(t, file, kAccess, minimal(6, 4, 0)) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 0640));
  CHECK(get(t, file, kAccess).empty());
  CHECK(set(t, file, kAccess, minimal(7, 4, 0)) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 0740));

  CHECK(set(t, file, kAccess, list(7, 6, 5, 6, 1)) == "ok");
  CHECK(name_of(t->remove_xattr(file, kAccess)) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 0761));
  CHECK(name_of(t->remove_xattr(file, kAccess)) == "ok");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("lists that are not valid, too long or at the wrong place are refused", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  Acl broken = list(7, 7, 7, 7, 7);
  broken.pop_back();
  CHECK(set(t, file, kAccess, broken) == "acl_invalid");
  CHECK(set(t, kRootIno, kDefault, broken) == "acl_invalid");
  CHECK(set(t, file, kDefault, list(7, 7, 7, 7, 7)) == "acl_not_a_directory");
  Acl longest = list(7, 7, 7, 7, 7);
  for (uint32_t id = 2000; longest.size() < 511; ++id) {
    longest.insert(longest.begin() + 2, {AclTag::user, 1, id});
  }
  CHECK(set(t, file, kAccess, longest) == "ok");
  CHECK(get(t, file, kAccess) == longest);
  longest.insert(longest.begin() + 2, {AclTag::user, 1, 1});
  CHECK(set(t, file, kAccess, longest) == "attribute_too_large");
  const Ino symlink = t->make_symlink(kRootIno, "s", "target", t.new_file(0))->ino;
  CHECK(set(t, symlink, kAccess, list(7, 7, 7, 7, 7)) == "not_supported");
  CHECK(t.attributes(file).mode == (S_IFREG | 0777));
}

TEST_CASE("setting an access list takes the set-group-ID bit of who may not have it", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const bool extended = GENERATE(false, true);
  const Acl acl = extended ? list(7, 7, 7, 7, 7) : minimal(7, 7, 7);
  change_mode(t, file, 06755);
  CHECK(set(t, file, kAccess, acl, false) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 06777));
  CHECK(set(t, file, kAccess, acl, true) == "ok");
  CHECK(t.attributes(file).mode == (S_IFREG | 04777));
}

TEST_CASE("chmod changes the access list", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(set(t, file, kAccess, list(7, 6, 5, 6, 1)) == "ok");
  change_mode(t, file, 02740);
  CHECK(t.attributes(file).mode == (S_IFREG | 02740));
  CHECK(get(t, file, kAccess) == list(7, 6, 5, 4, 0));
  t.remount();
  REQUIRE(t.find(kRootIno, "f") == file);
  change_mode(t, file, 0);
  CHECK(get(t, file, kAccess) == list(0, 6, 5, 0, 0));
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("what is made below a default list gets it in place of the umask", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "d");
  CHECK(set(t, directory, kDefault, list(7, 6, 5, 6, 1)) == "ok");
  CHECK(t.attributes(directory).mode == (S_IFDIR | 0755));
  if (GENERATE(false, true)) {
    t.remount();
    REQUIRE(t.find(kRootIno, "d") == directory);
  }
  const Attributes file = *t->make_node(directory, "f", with_umask(t, S_IFREG | 0666, 077));
  CHECK(file.mode == (S_IFREG | 0660));
  CHECK(get(t, file.ino, kAccess) == list(6, 6, 5, 6, 0));
  CHECK(get(t, file.ino, kDefault).empty());

  const auto opened = t->create(directory, "opened", with_umask(t, 0600, 077), {});
  REQUIRE(opened.ok());
  CHECK(opened->first.mode == (S_IFREG | 0600));
  CHECK(get(t, opened->first.ino, kAccess) == list(6, 6, 5, 0, 0));
  t->release(opened->second);

  const Attributes below = *t->make_directory(directory, "below", with_umask(t, 0777, 077));
  CHECK(below.mode == (S_IFDIR | 0761));
  CHECK(get(t, below.ino, kAccess) == list(7, 6, 5, 6, 1));
  CHECK(get(t, below.ino, kDefault) == list(7, 6, 5, 6, 1));

  const Attributes symlink = *t->make_symlink(directory, "s", "t", with_umask(t, 0, 077));
  CHECK(symlink.mode == (S_IFLNK | 0777));
  CHECK(get(t, symlink.ino, kAccess).empty());

  CHECK(name_of(t->remove_xattr(directory, kDefault)) == "ok");
  const Attributes plain = *t->make_node(directory, "g", with_umask(t, S_IFREG | 0666, 027));
  CHECK(plain.mode == (S_IFREG | 0640));
  CHECK(get(t, plain.ino, kAccess).empty());
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a minimal default list only masks the mode", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  CHECK(set(t, kRootIno, kDefault, minimal(7, 5, 0)) == "ok");
  const Attributes file = *t->make_node(kRootIno, "f", with_umask(t, S_IFREG | 0666, 022));
  CHECK(file.mode == (S_IFREG | 0640));
  CHECK(get(t, file.ino, kAccess).empty());
  const Attributes directory = *t->make_directory(kRootIno, "d", with_umask(t, 0777, 022));
  CHECK(directory.mode == (S_IFDIR | 0750));
  CHECK(get(t, directory.ino, kAccess).empty());
  CHECK(get(t, directory.ino, kDefault) == minimal(7, 5, 0));
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("set-group-ID directories and default lists both hand down what they have", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "d");
  change_mode(t, directory, 02775);
  AttributeChange change;
  change.gid = 4242;
  REQUIRE(name_of(t->set_attributes(directory, change)) == "ok");
  CHECK(set(t, directory, kDefault, list(7, 7, 7, 7, 5)) == "ok");
  const Attributes below = *t->make_directory(directory, "below", with_umask(t, 0777, 077));
  CHECK(below.mode == (S_IFDIR | 02775));
  CHECK(below.gid == 4242);
  const Attributes file = *t->make_node(directory, "f", with_umask(t, S_IFREG | 0666, 077));
  CHECK(file.mode == (S_IFREG | 0664));
  CHECK(file.gid == 4242);
  t.unmount();
  CHECK(t.fsck() == "");
}
