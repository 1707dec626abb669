// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes through FileSystem: names, sizes, modes, capabilities, and that they go with
// the inode.
#include <catch2/catch.hpp>

#include "base/prng.h"
#include "crash_points.h"
#include "fs_fixture.h"

using namespace stablefs;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(const Result<std::vector<std::byte>>& value) {
  if (!value.ok()) return value.error().name();
  return {reinterpret_cast<const char*>(value->data()), value->size()};
}

std::string set(TestFs& t, Ino ino, const std::string& name, std::string_view value,
                XattrMode mode = XattrMode::create_or_replace) {
  return name_of(t->set_xattr(ino, name, bytes_of(value), {mode, false}));
}
std::string get(TestFs& t, Ino ino, const std::string& name) {
  return text_of(t->get_xattr(ino, name));
}
std::vector<std::string> list(TestFs& t, Ino ino) {
  auto names = t->list_xattrs(ino);
  if (!names.ok()) FAIL(names.error().message());
  std::sort(names->begin(), names->end());
  return *names;
}

uint64_t count_xattr_items(TestFs& t) {
  const auto items = t->store().scan(Key::minimum(), Key::maximum(), SIZE_MAX);
  REQUIRE(items.ok());
  uint64_t count = 0;
  for (const Item& item : *items) count += item.key.kind == static_cast<uint8_t>(ItemKind::xattr);
  return count;
}

}  // namespace

TEST_CASE("extended attributes are set, read, listed, removed, and survive a remount", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(list(t, file).empty());
  CHECK(get(t, file, "user.x") == "no_attribute");
  CHECK(set(t, file, "user.x", "value") == "ok");
  CHECK(set(t, file, "user.empty", "") == "ok");
  CHECK(set(t, file, "trusted.x", "trusted") == "ok");
  CHECK(set(t, file, "security.x", "security") == "ok");
  CHECK(set(t, file, "user.y", "other") == "ok");
  CHECK(name_of(t->remove_xattr(file, "user.y")) == "ok");
  CHECK(name_of(t->remove_xattr(file, "user.y")) == "no_attribute");
  const std::vector<std::string> names = {"security.x", "trusted.x", "user.empty", "user.x"};
  for (int round = 0; round < 2; ++round) {
    CHECK(list(t, file) == names);
    CHECK(get(t, file, "user.x") == "value");
    CHECK(get(t, file, "user.empty").empty());
    CHECK(get(t, file, "trusted.x") == "trusted");
    CHECK(get(t, file, "security.x") == "security");
    CHECK(get(t, file, "user.y") == "no_attribute");
    t.remount();
    REQUIRE(t.find(kRootIno, "f") == file);
  }
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("values of every length replace each other", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  Prng prng(1);
  const size_t lengths[] = {0, 985, 986, 987, 1986, 65536, 65535, 1, 40000, 2000, 0};
  for (const size_t length : lengths) {
    std::string value(length, '\0');
    for (char& c : value) c = static_cast<char>(prng.next());
    INFO(length);
    REQUIRE(set(t, file, "user.x", value) == "ok");
    CHECK(get(t, file, "user.x") == value);
    CHECK(count_xattr_items(t) == xattr_chunks(6, length));
  }
  CHECK(set(t, file, "user.x", std::string(65537, 'x')) == "attribute_too_large");
  CHECK(get(t, file, "user.x").empty());
  const std::string long_name = "user." + std::string(250, 'n');
  CHECK(set(t, file, long_name, "v") == "ok");
  CHECK(get(t, file, long_name) == "v");
  CHECK(set(t, file, long_name + "n", "v") == "attribute_range");
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("create and replace look at what is there", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  CHECK(set(t, file, "user.x", "1", XattrMode::replace) == "no_attribute");
  CHECK(set(t, file, "user.x", "1", XattrMode::create) == "ok");
  CHECK(set(t, file, "user.x", "2", XattrMode::create) == "exists");
  CHECK(get(t, file, "user.x") == "1");
  CHECK(set(t, file, "user.x", "2", XattrMode::replace) == "ok");
  CHECK(get(t, file, "user.x") == "2");
}

TEST_CASE("names of no known namespace are refused, user attributes of what is no file too",
          "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  for (const char* name : {"x", "", "os2.x", "system.x", "system.posix_acl", "user"}) {
    CHECK(set(t, file, name, "v") == "not_supported");
    CHECK(get(t, file, name) == "not_supported");
    CHECK(name_of(t->remove_xattr(file, name)) == "not_supported");
  }
  CHECK(set(t, file, "user.", "v") == "invalid_argument");
  CHECK(set(t, file, "trusted.", "v") == "invalid_argument");
  const Ino symlink = t->make_symlink(kRootIno, "s", "target", t.new_file(0))->ino;
  const Ino fifo = t->make_node(kRootIno, "p", t.new_file(S_IFIFO | 0600))->ino;
  for (const Ino ino : {symlink, fifo}) {
    CHECK(set(t, ino, "user.x", "v") == "not_permitted");
    CHECK(get(t, ino, "user.x") == "no_attribute");
    CHECK(set(t, ino, "trusted.x", "v") == "ok");
    CHECK(get(t, ino, "trusted.x") == "v");
  }
  CHECK(set(t, kRootIno, "user.x", "v") == "ok");
  CHECK(get(t, kRootIno, "user.x") == "v");
}

TEST_CASE("names of one hash live side by side", "[fs]") {
  TestFs t;
  t.hash = [](std::string_view) { return uint64_t{77}; };
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const auto name = [](int i) { return "user." + std::to_string(i); };
  for (int i = 0; i < 256; ++i) REQUIRE(set(t, file, name(i), std::to_string(i)) == "ok");
  CHECK(set(t, file, "user.more", "v") == "attribute_hash_full");
  CHECK(name_of(t->remove_xattr(file, name(100))) == "ok");
  CHECK(get(t, file, name(100)) == "no_attribute");
  CHECK(set(t, file, "user.more", std::string(2000, 'm')) == "ok");
  CHECK(list(t, file).size() == 256);
  for (int i = 0; i < 256; i += 5) {
    if (i != 100) CHECK(get(t, file, name(i)) == std::to_string(i));
  }
}

TEST_CASE("extended attributes move the change time", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const Timestamp made = t.attributes(file).change_time;
  CHECK(set(t, file, "user.x", "v") == "ok");
  const Timestamp after_set = t.attributes(file).change_time;
  CHECK(after_set > made);
  CHECK(name_of(t->remove_xattr(file, "user.x")) == "ok");
  const Timestamp after_removal = t.attributes(file).change_time;
  CHECK(after_removal > after_set);
  CHECK(name_of(t->remove_xattr(file, "user.x")) == "no_attribute");
  CHECK(t.attributes(file).change_time == after_removal);
  CHECK(t.attributes(file).modify_time < after_set);
}

TEST_CASE("extended attributes go with their inode, however many there are", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const int many = GENERATE(1, 300);
  const bool crash = GENERATE(false, true);
  const std::string value(many == 1 ? 10 : 1500, 'v');
  const auto fill = [&](Ino ino, const char* space) {
    for (int i = 0; i < many; ++i) REQUIRE(set(t, ino, space + std::to_string(i), value) == "ok");
  };
  const uint64_t before = count_xattr_items(t);
  const Ino file = t.make_file(kRootIno, "file");
  t.write(file, "contents");
  fill(file, "user.");
  const Ino node = t->make_node(kRootIno, "node", t.new_file(S_IFIFO | 0600))->ino;
  fill(node, "trusted.");
  const Ino symlink = t->make_symlink(kRootIno, "symlink", "target", t.new_file(0))->ino;
  fill(symlink, "trusted.");
  const Ino directory = t.make_directory(kRootIno, "directory");
  fill(directory, "user.");
  const bool known = GENERATE(false, true);  // to the kernel, when the names go
  if (!known) {
    for (const Ino ino : {file, node, symlink, directory}) t->forget(ino, 1);
  }
  for (const char* name : {"file", "node", "symlink"}) {
    REQUIRE(name_of(t->unlink(kRootIno, name)) == "ok");
  }
  REQUIRE(name_of(t->remove_directory(kRootIno, "directory")) == "ok");
  CHECK(t.attributes(kRootIno).link_count == 2);
  if (known && !crash) {
    for (const Ino ino : {file, node, symlink, directory}) t->forget(ino, 1);
  }
  if (crash) t.crash();
  t->drain_orphans();
  CHECK(count_xattr_items(t) == before);
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a removed directory with many extended attributes takes no new entries", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino directory = t.make_directory(kRootIno, "d");
  for (int i = 0; i < 200; ++i) {
    REQUIRE(set(t, directory, "user." + std::to_string(i), "v") == "ok");
  }
  REQUIRE(name_of(t->remove_directory(kRootIno, "d")) == "ok");
  CHECK(name_of(t->make_node(directory, "f", t.new_file(S_IFREG | 0644))) == "not_found");
  CHECK(t.attributes(directory).link_count == 0);
  t->forget(directory, 1);
  CHECK(count_xattr_items(t) == 0);
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("a file capability ends with a write, a truncation, a new owner, a punch", "[fs]") {
  TestFs t(Backing::memory_device);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const std::string capability = "security.capability";
  t.write(file, "contents");
  for (int round = 0; round < 5; ++round) {
    INFO(round);
    REQUIRE(set(t, file, capability, "cap") == "ok");
    REQUIRE(set(t, file, "user.x", "stays") == "ok");
    if (round % 2 == 0) {
      t.remount();
      REQUIRE(t.find(kRootIno, "f") == file);
    }
    AttributeChange change;
    change.mode = 0700;
    REQUIRE(name_of(t->set_attributes(file, change)) == "ok");
    CHECK(get(t, file, capability) == "cap");
    change = {};
    switch (round) {
      case 0:
        t.write(file, "more");
        break;
      case 1:
        change.size_bytes = 3;
        REQUIRE(name_of(t->set_attributes(file, change)) == "ok");
        break;
      case 2:
        change.uid = 77;
        REQUIRE(name_of(t->set_attributes(file, change)) == "ok");
        break;
      case 3:
        REQUIRE(name_of(t->punch(file, 0, 0, 2)) == "ok");
        break;
      default:
        REQUIRE(name_of(t->remove_xattr(file, capability)) == "ok");
        t.write(file, "again");
    }
    CHECK(get(t, file, capability) == "no_attribute");
    CHECK(get(t, file, "user.x") == "stays");
  }
  t.unmount();
  CHECK(t.fsck() == "");
}

TEST_CASE("an extended attribute that lost a chunk is damage, not another value", "[fs]") {
  TestFs t;
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  REQUIRE(set(t, file, "user.x", std::string(3000, 'v')) == "ok");
  const auto items =
      t->store().scan(Key(file, ItemKind::xattr, 0), Key(file, ItemKind::xattr, ~0ull), 10);
  REQUIRE(items->size() == 4);
  const size_t missing = GENERATE(1u, 2u, 3u);
  Transaction transaction;
  transaction.erase((*items)[missing].key);
  REQUIRE(t->store().commit(transaction, false).ok());
  CHECK(get(t, file, "user.x") == "item_invalid");
  CHECK(set(t, file, "user.x", "new") == "item_invalid");
  CHECK(list(t, file) == std::vector<std::string>{"user.x"});
}

// Every state of the device that a crash may leave shows the old value or the new one, whole.
TEST_CASE("a value is replaced at once, whenever the power fails", "[fs][crash]") {
  TestFs t(Backing::memory_device, 8192);
  t.mount();
  const Ino file = t.make_file(kRootIno, "f");
  const std::string old_value(65536, 'o'), new_value(GENERATE(10, 30000), 'n');
  REQUIRE(set(t, file, "user.x", old_value) == "ok");
  REQUIRE(name_of(t->sync_all()) == "ok");
  REQUIRE(set(t, file, "user.x", new_value) == "ok");
  uint64_t seen_old = 0, seen_new = 0;
  const bool synced = GENERATE(false, true);
  if (synced) REQUIRE(name_of(t->sync_all()) == "ok");
  const CrashPolicy policy = GENERATE(CrashPolicy::drop_all, CrashPolicy::torn);
  t.power_failure(policy, 5);
  t.mount();
  REQUIRE(t.find(kRootIno, "f") == file);
  const std::string value = get(t, file, "user.x");
  seen_old += value == old_value;
  seen_new += value == new_value;
  CHECK(seen_old + seen_new == 1);
  if (synced) CHECK(seen_new == 1);
  t.unmount();
  CHECK(t.fsck() == "");
}
