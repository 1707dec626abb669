// SPDX-License-Identifier: GPL-2.0-or-later
// Many threads at once, as the machine runs them; afterwards every count must be right.
#include <catch2/catch.hpp>

#include "fs_fixture.h"
#include "fs_worker.h"

using namespace stablefs;

namespace {

void mount_for_races(TestFs& t) {
  t.options.atime = AtimePolicy::strictatime;
  t.options.commit_interval_ns = kNsPerMs;
  t.options.writeback_delay_ns = kNsPerMs;
  t.mount();
}

}  // namespace

TEST_CASE("threads that fight over names leave a consistent tree", "[fs]") {
  TestFs t;
  mount_for_races(t);
  CHECK(fight(t, 1, 4, 20000) == "");
}

TEST_CASE("threads that fight over names on a device leave what fsck calls clean", "[fs]") {
  TestFs t(Backing::memory_device);
  mount_for_races(t);
  CHECK(fight(t, 1, 4, 5000) == "");
  CHECK(t.fsck() == "");
}
