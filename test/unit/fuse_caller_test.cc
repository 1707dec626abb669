// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

// A process in a user namespace of its own, with all capabilities there; 0: there may be none.
class Pretender {
 public:
  Pretender() {
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const char made = ::unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
      (void)!::write(pipe[1], &made, 1);
      ::pause();
      ::_exit(0);
    }
    char made = 'n';
    REQUIRE(::read(pipe[0], &made, 1) == 1);
    ::close(pipe[0]);
    ::close(pipe[1]);
    made_ = made == 'y';
  }
  ~Pretender() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Pretender(const Pretender&) = delete;
  Pretender& operator=(const Pretender&) = delete;

  uint32_t pid() const { return made_ ? static_cast<uint32_t>(pid_) : 0; }

 private:
  pid_t pid_ = 0;
  bool made_ = false;
};

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

TEST_CASE("capabilities in a user namespace of one's own do not count", "[fuse]") {
  const Pretender pretender;
  if (pretender.pid() == 0) {
    WARN("no user namespaces here");
    return;
  }
  const Caller inside = caller(pretender.pid(), 1000, 1000);
  CHECK_FALSE(inside.may_act_for(5));
  CHECK_FALSE(inside.may_keep_sgid(77));
  CHECK_FALSE(inside.may_keep_set_ids());
  if (::geteuid() != 0) return;
  CHECK_FALSE(inside.may_manage());
  const Caller outside = caller(static_cast<uint32_t>(::getpid()), 1000, 1000);
  CHECK(outside.may_act_for(5));
  CHECK(outside.may_keep_sgid(77));
  CHECK(outside.may_keep_set_ids());
  CHECK(outside.may_manage());
}

TEST_CASE("set-group-ID without group execution is for members to keep", "[fuse]") {
  const Caller stranger = caller(0, 5, 6), member = caller(0, 5, 77);
  CHECK(cost_of_change(stranger, file(S_IFREG | 02644)) == SetIds::clear_all);
  CHECK(cost_of_change(member, file(S_IFREG | 02644)) == SetIds::clear);
  CHECK(cost_of_change(stranger, file(S_IFREG | 02654)) == SetIds::clear);  // goes anyway
  CHECK(cost_of_change(stranger, file(S_IFREG | 04644)) == SetIds::clear);
  CHECK(cost_of_change(stranger, file(S_IFREG | 01777)) == SetIds::keep);
  CHECK(cost_of_change(stranger, file(S_IFDIR | 06777)) == SetIds::keep);
}
