// SPDX-License-Identifier: GPL-2.0-or-later
// Who sent a request. Its header names no supplementary groups and no capabilities, so those are
// read from /proc while the caller waits for the answer. Who is not found there has none.
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

 private:
  uint32_t pid_;
  uid_t uid_;
  gid_t gid_;
};

bool has_suid_or_sgid(const Attributes& attributes);
// Whether the set-group-ID bit goes also without group execution: it is for members to keep.
bool loses_any_sgid(const Caller& caller, const Attributes& attributes);

// What proc(5) says in a process's status file.
bool status_has_group(std::string_view status, gid_t group);
bool status_has_capability(std::string_view status, uint32_t capability);

}  // namespace stablefs
