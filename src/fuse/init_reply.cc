// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/init_reply.h"

#include <algorithm>

namespace stablefs {

uint64_t offered_init_flags(const fuse_init_in& request) {
  uint64_t flags = request.flags;
  if (flags & kInitExt) flags |= static_cast<uint64_t>(request.flags2) << 32;
  return flags;
}

void complete_init_reply(const fuse_init_in& request, fuse_init_out& reply) {
  constexpr uint64_t kAdded =
      kInitParallelDirops | kInitHandleKillprivV2 | kInitSetxattrExt | kInitDirectIoAllowMmap;
  const uint64_t offered = offered_init_flags(request);
  const uint64_t added = kAdded & offered;
  reply.flags |= static_cast<uint32_t>(added);
  // The high word counts only together with INIT_EXT, and unless the library set it, what stands
  // there is nobody's.
  if (offered & kInitExt) {
    if (!(reply.flags & kInitExt)) reply.flags2 = 0;
    reply.flags |= static_cast<uint32_t>(kInitExt);
    reply.flags2 |= static_cast<uint32_t>(added >> 32);
  }
  reply.minor = std::max(reply.minor, std::min(request.minor, kProtocolMinor));
}

}  // namespace stablefs
