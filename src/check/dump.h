// SPDX-License-Identifier: GPL-2.0-or-later
// On-disk structures as text, for people debugging. Deterministic; goes on where something is
// damaged and says so. Everything but dump_inode shows what is on the device, without replaying the
// journal.
#pragma once

#include <functional>
#include <string_view>

#include "base/clock.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "device/block_device.h"

namespace stablefs {

using DumpSink = std::function<void(std::string_view text)>;

Status dump_superblock(BlockDevice& device, const DumpSink& sink);  // all four slots
Status dump_journal(BlockDevice& device, const DumpSink& sink);     // batches, records, operations
Status dump_tree(BlockDevice& device, const DumpSink& sink);        // nodes and items, in key order
Status dump_space(BlockDevice& device, const DumpSink& sink);       // a line a group
// All items of an inode, with the tuples of its extents, as of the journal's end.
Status dump_inode(BlockDevice& device, Ino ino, Clock& clock, Logger& logger, const DumpSink& sink);

}  // namespace stablefs
