// SPDX-License-Identifier: GPL-2.0-or-later
// Who sent a request. Its header names no supplementary groups and no capabilities, so those are
// read from /proc while the caller waits for the answer. Who is not found there has none.
// Capabilities count in the daemon's user namespace only: in one of their own all people have all.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "fs/file_system.h"
#include "fuse/protocol.h"

namespace stablefs {

class Caller {
 public:
  explicit Caller(const fuse_in_header& header)
      : pid_(header.pid), uid_(header.uid), gid_(header.gid) {}

  bool may_act_for(uid_t owner) const;    // is the owner, or has CAP_FOWNER
  bool may_keep_sgid(gid_t group) const;  // is in the group, or has CAP_FSETID
  bool may_keep_set_ids() const;          // has CAP_FSETID
  // Runs the daemon, or has CAP_SYS_ADMIN. The daemon of an ordinary user also obeys root, whose
  // capabilities it may not look at.
  bool may_manage() const;

 private:
  uint32_t pid_;
  uid_t uid_;
  gid_t gid_;
};

// What a change by somebody without the privilege costs a file; keep: there is nothing to lose.
SetIds cost_of_change(const Caller& caller, const Attributes& attributes);

// What proc(5) says in a process's status file.
bool status_has_group(std::string_view status, gid_t group);
bool status_has_capability(std::string_view status, uint32_t capability);

}  // namespace stablefs
