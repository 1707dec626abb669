// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/damage_json.h"

#include <nlohmann/json.hpp>

#include "base/time_text.h"
#include "format/bytes.h"
#include "format/items.h"

namespace stablefs {

nlohmann::json to_json(const DamageEntry& entry) {
  nlohmann::json out;
  out["path"] = entry.path.empty() ? "?" : escape_text(entry.path);
  out["inode"] = entry.ino.value;
  out["offset"] = entry.file_block * kBlockSize;
  out["length"] = kBlockSize;
  out["block"] = entry.lba.value;
  out["kind"] = to_string(entry.kind);
  out["expected"] = entry.expected;
  out["found"] = entry.found;
  out["time"] = time_text(entry.seen);
  return out;
}

}  // namespace stablefs
