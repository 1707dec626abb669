// SPDX-License-Identifier: GPL-2.0-or-later
// Talking to a running daemon: extended attributes of the mount's root directory, so that the
// kernel carries the request, checks permissions and no socket path has to be agreed upon.
// getxattr: "stablefs.stats" gives flat JSON {"device.flushes": 12, ...}; "stablefs.info" gives
// JSON about the mount: source, pid, uuid, label, options. setxattr: "stablefs.mark" puts its value
// (text of at most 4096 bytes) as a mark into the log of a mount with -o iolog; "stablefs.tune"
// takes "NAME=VALUE" (stable=auto|wait|copy; atime=relatime|noatime|strictatime, with "/nodir"
// behind it not of directories) and is for root and the daemon's owner, as is "stablefs.abort",
// which fails everything that waits, and all that comes later. Only on the root directory.
//
// "stablefs.in_flight" is an array of the writes of data under way, the oldest first.
//
// "stablefs.damage" of the root directory, or "stablefs.damage.BLOCK" from a device block on, is
// {"entries": [...], "next": BLOCK or null}; set to "clear" it empties the list. On a regular file
// "stablefs.tags.FIRST_BLOCK.BLOCKS" is an array of its runs with their tuples, 16 hexadecimal
// digits each: guard, application tag, reference tag. Both for root and the file's owner only.
#pragma once

namespace stablefs {

inline constexpr const char* kControlPrefix = "system.stablefs.";
inline constexpr const char* kControlStats = "system.stablefs.stats";
inline constexpr const char* kControlInfo = "system.stablefs.info";
inline constexpr const char* kControlMark = "system.stablefs.mark";
inline constexpr const char* kControlAbort = "system.stablefs.abort";
inline constexpr const char* kControlInFlight = "system.stablefs.in_flight";
inline constexpr const char* kControlTune = "system.stablefs.tune";
inline constexpr unsigned kMarkBytesMax = 4096;
inline constexpr const char* kControlDamage = "system.stablefs.damage";
inline constexpr const char* kDamageClear = "clear";
inline constexpr const char* kTagsAttribute = "system.stablefs.tags";
inline constexpr unsigned kTagsBlocksMax = 128;
inline constexpr const char* kAppTagAttribute = "user.stablefs.app_tag";

}  // namespace stablefs
