// SPDX-License-Identifier: GPL-2.0-or-later
#include <catch2/catch.hpp>

#include "fuse/init_reply.h"

namespace stablefs {
namespace {

constexpr uint32_t kHighMmap = static_cast<uint32_t>(kInitDirectIoAllowMmap >> 32);

TEST_CASE("INIT: what the library cannot ask for is added when it was offered") {
  fuse_init_in in{};
  in.minor = 45;
  in.flags = static_cast<uint32_t>(kInitParallelDirops | kInitHandleKillprivV2 | kInitExt);
  in.flags2 = kHighMmap;
  fuse_init_out out{};
  out.minor = 31;
  out.flags = 1;
  complete_init_reply(in, out);
  CHECK(out.flags == (1u | kInitParallelDirops | kInitHandleKillprivV2 | kInitExt));
  CHECK(out.flags2 == kHighMmap);
  CHECK(out.minor == 45);
}

TEST_CASE("INIT: nothing is claimed that was not offered") {
  fuse_init_in in{};
  in.minor = 26;
  in.flags2 = ~0u;  // without INIT_EXT this word means nothing
  fuse_init_out out{};
  out.minor = 26;
  out.flags = 1;
  complete_init_reply(in, out);
  CHECK(out.flags == 1u);
  CHECK(out.flags2 == 0);
  CHECK(out.minor == 26);
}

TEST_CASE("INIT: only the offered ones of the three are added") {
  const uint32_t offered = GENERATE(static_cast<uint32_t>(kInitParallelDirops),
                                    static_cast<uint32_t>(kInitHandleKillprivV2));
  fuse_init_in in{};
  in.minor = 50;
  in.flags = offered | static_cast<uint32_t>(kInitExt);
  fuse_init_out out{};
  complete_init_reply(in, out);
  CHECK(out.flags == (offered | static_cast<uint32_t>(kInitExt)));
  CHECK(out.flags2 == 0);
  CHECK(out.minor == kProtocolMinor);
}

}  // namespace
}  // namespace stablefs
