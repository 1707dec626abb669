// SPDX-License-Identifier: GPL-2.0-or-later
// Talking to a running daemon: extended attributes of the mount's root directory, so that the
// kernel carries the request, checks permissions and no socket path has to be agreed upon.
// getxattr: "stablefs.stats" gives flat JSON {"device.flushes": 12, ...}; "stablefs.info" gives
// JSON about the mount: source, pid, uuid, label, options. setxattr: "stablefs.mark" puts its value
// (text of at most 4096 bytes) as a mark into the log of a mount with -o iolog; "stablefs.tune"
// takes "NAME=VALUE" (stable=auto|wait|copy) and is for root and the daemon's owner. Only on the
// root directory.
#pragma once

namespace stablefs {

inline constexpr const char* kControlPrefix = "system.stablefs.";
inline constexpr const char* kControlStats = "system.stablefs.stats";
inline constexpr const char* kControlInfo = "system.stablefs.info";
inline constexpr const char* kControlMark = "system.stablefs.mark";
inline constexpr const char* kControlTune = "system.stablefs.tune";
inline constexpr unsigned kMarkBytesMax = 4096;

}  // namespace stablefs
